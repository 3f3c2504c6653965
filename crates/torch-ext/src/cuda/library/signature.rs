//! Signatures that can be compared.

use std::any::type_name;

/// What the C calling convention sees of a type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Class {
    bytes: usize,
    is_pointer: bool,
    is_float: bool,
}

impl Class {
    pub(crate) fn of<T>() -> Self {
        let name = type_name::<T>();
        Self { bytes: size_of::<T>(), is_pointer: name.starts_with('*'), is_float: name == "f32" || name == "f64" }
    }
}

pub(crate) trait Signature {
    /// The classes of the arguments and of the result.
    fn classes(&self) -> Vec<Class>;
}

macro_rules! signature {
    ($($argument:ident)*) => {
        impl<$($argument,)* Output> Signature for unsafe fn($($argument),*) -> Output {
            fn classes(&self) -> Vec<Class> {
                vec![$(Class::of::<$argument>(),)* Class::of::<Output>()]
            }
        }
    };
}
signature!(A);
signature!(A B);
signature!(A B C);
signature!(A B C D E F);
signature!(A B C D E F G H I J K);
signature!(A B C D E F G H I J K L M N);
signature!(A B C D E F G H I J K L M N O P Q);

/// A type that the compiler infers, in place of the one given.
macro_rules! inferred {
    ($type:ty) => {
        _
    };
}
pub(crate) use inferred;
