//! Libraries of the CUDA that libtorch itself uses, opened at run time.
//!
//! The modules that use [`foreign_library!`] declare the functions, and a test compares the
//! declarations with those of the crate cudarc, which are generated from CUDA's headers. cudarc is
//! not used to call the functions, for three reasons. It opens a library by a fixed list of names
//! that begins with the unversioned one, so a toolkit on the machine would come before the
//! libraries that libtorch brings along. It panics where a library or a function is missing. And
//! its status codes are Rust enums, which is undefined behaviour where a newer library returns a
//! code of its own.

use libloading::os::unix::{Library, RTLD_NOW};
use std::error::Error as _;
use std::path::{Path, PathBuf};

/// Declares functions of a C library: a struct of their addresses, one unsafe method for each, and
/// `open`, which looks for the library under `names` (see [`open_library`]). In tests,
/// `assert_signatures` compares the declarations with functions of the same names in the module
/// after `like`.
macro_rules! foreign_library {
    (
        $(#[$attribute:meta])*
        struct $library:ident, names $names:expr, like $($like:ident)::+;
        $(fn $function:ident($($argument:ident: $type:ty),* $(,)?) -> $result:ty;)*
    ) => {
        $(#[$attribute])*
        #[allow(non_snake_case)]
        struct $library {
            $($function: libloading::os::unix::Symbol<unsafe extern "C" fn($($type),*) -> $result>,)*
        }

        #[allow(non_snake_case, clippy::too_many_arguments)]
        impl $library {
            fn open() -> Result<Self, String> {
                $crate::cuda::library::open_library(&$names, |library| {
                    // SAFETY: names and signatures are those of the library's C header.
                    unsafe {
                        Ok(Self { $($function: library.get(concat!(stringify!($function), "\0").as_bytes())?,)* })
                    }
                })
            }

            #[cfg(test)]
            fn assert_signatures() {
                use $($like)::+ as like;
                use $crate::cuda::library::signature::{Class, Signature, inferred};
                $(
                    let ours = vec![$(Class::of::<$type>(),)* Class::of::<$result>()];
                    let theirs = (like::$function as unsafe fn($(inferred!($type)),*) -> _).classes();
                    assert_eq!(ours, theirs, "{}", stringify!($function));
                )*
            }

            $(
                /// # Safety
                /// As the library's documentation says.
                unsafe fn $function(&self, $($argument: $type),*) -> $result {
                    // SAFETY: as the caller says.
                    unsafe { (self.$function)($($argument),*) }
                }
            )*
        }
    };
}
pub(crate) use foreign_library;

/// Opens a library of CUDA under the first of its `names` that can be opened and has all
/// `entries`. The library is never unloaded. The error is the message of the last attempt.
pub(crate) fn open_library<T>(
    names: &[&str],
    entries: impl Fn(&Library) -> Result<T, libloading::Error>,
) -> Result<T, String> {
    let mut message = "no name was given".to_owned();
    for path in candidates(names) {
        // SAFETY: a library of the CUDA that libtorch itself loads; the initialisers of those
        // libraries touch nothing but themselves.
        let opened = unsafe { Library::open(Some(&path), RTLD_NOW) }.and_then(|library| {
            let found = entries(&library)?;
            std::mem::forget(library);
            Ok(found)
        });
        match opened {
            Ok(found) => return Ok(found),
            Err(error) => message = loader_message(&error),
        }
    }
    Err(message)
}

/// The message of the dynamic loader itself, which libloading keeps as the source of its error.
pub(super) fn loader_message(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Where a library of the CUDA toolkit may be: in the wheels beside the libtorch in use, in
/// libtorch's own folder, and on the loader's path. In each place the names come in their order.
fn candidates<'a>(names: &'a [&str]) -> impl Iterator<Item = PathBuf> + use<'a> {
    const FOLDERS: [&str; 4] =
        ["../../nvidia/cu13/lib", "../../nvidia/cuda_nvrtc/lib", "../../nvidia/cusolver/lib", "."];
    let folders = torch_folder().into_iter().flat_map(|torch| FOLDERS.map(|relative| torch.join(relative)));
    let beside_torch = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    beside_torch.filter(|path| path.exists()).chain(names.iter().map(PathBuf::from))
}

/// The folder that `libtorch_cuda.so` was loaded from.
fn torch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cuda.so"))?;
    let path = line.find('/').map(|at| &line[at..])?;
    Path::new(path).parent().map(Path::to_owned)
}

#[cfg(test)]
pub(crate) mod signature;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_opened_by_the_name_that_exists_and_with_all_entries() {
        type Function = extern "C" fn(f64) -> f64;
        // SAFETY: the name and the signature are those of math.h.
        let entry =
            |name: &'static [u8]| move |library: &Library| unsafe { library.get::<Function>(name).map(|f| f(0.0)) };
        let names = ["libno-such-library.so.1", "libm.so.6"];
        assert_eq!(open_library(&names, entry(b"cos\0")), Ok(1.0));
        let lacking = open_library(&names, entry(b"no_such_entry\0")).unwrap_err();
        assert!(lacking.contains("no_such_entry"), "{lacking}");
        assert!(open_library(&names[..1], entry(b"cos\0")).unwrap_err().contains("libno-such-library"));
    }

    #[test]
    fn declared_functions_are_called_and_missing_ones_are_an_error() {
        foreign_library! {
            struct Maths, names ["libm.so.6"], like self::maths;
            fn pow(base: f64, exponent: f64) -> f64;
            fn fabs(x: f64) -> f64;
        }
        let Ok(maths) = Maths::open() else { panic!("libm has both") };
        // SAFETY: these functions take any number.
        let found = unsafe { (maths.pow(2.0, 10.0), maths.fabs(-3.0)) };
        assert_eq!(found, (1024.0, 3.0));
        Maths::assert_signatures();

        foreign_library! {
            struct Lacking, names ["libm.so.6"], like self::maths;
            fn fabs(x: f64) -> f64;
            fn no_such_function(x: f64) -> f64;
        }
        let message = Lacking::open().err().unwrap();
        assert!(message.contains("no_such_function"), "{message}");
        // The methods exist, although nothing can call them.
        let _ = (Lacking::fabs, Lacking::no_such_function);
        let difference = std::panic::catch_unwind(Lacking::assert_signatures).unwrap_err();
        let difference = difference.downcast_ref::<String>().unwrap();
        assert!(difference.contains("no_such_function"), "{difference}");
    }

    /// Declarations to compare with. They are never called.
    mod maths {
        pub unsafe fn pow(base: f64, exponent: f64) -> f64 {
            base + exponent
        }
        pub unsafe fn fabs(x: f64) -> f64 {
            x
        }
        pub unsafe fn no_such_function(x: *const f64) -> f64 {
            x.addr() as f64
        }
    }
}
