//! tch's `f_` functions return the error of a call, except those that take a number.
//!
//! tch passes a number as a `tch::Scalar`, a temporary that is dropped between the call and the
//! check of the call's error. The drop checks for a pending error itself, takes the call's error
//! for its own, and panics. So `tensor.f_mul_scalar(2.0)` never returns an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;
use tch::TchError;

/// Runs `work` and turns the panics of tch's calls that take a number into errors, with libtorch's
/// message. Such a panic prints nothing. Every other panic continues as it would without this
/// function.
///
/// A call that panicked leaves its tensors in the state in which a call that returns an error
/// leaves them. A program built with `panic = "abort"` aborts.
///
/// ```
/// use tch::{Device, Kind, TchError, Tensor};
/// // 2⁵⁸ elements, which share one value in memory.
/// let large = Tensor::ones([1], (Kind::Float, Device::Cpu)).expand([1 << 58], false);
/// let error = torch_ext::catch_scalar_panic(|| large.f_mul_scalar(2.0)).unwrap_err();
/// assert!(torch_ext::AllocationFailure::recognise(&error.to_string()).is_some());
/// ```
///
/// # Errors
/// The errors of `work`, and [`TchError::Torch`] with the message of a call that panicked.
pub fn catch_scalar_panic<T, E: From<TchError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    silence_caught_panics();
    let before = CATCHING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    outcome.unwrap_or_else(|panic| match message(&*panic) {
        Some(message) => Err(TchError::Torch(message).into()),
        None => resume_unwind(panic),
    })
}

thread_local! {
    /// Whether this thread is inside [`catch_scalar_panic`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

fn silence_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !CATCHING.get() || message(panic.payload()).is_none() {
                report(panic);
            }
        }));
    });
}

/// libtorch's message, from the panic of an `unwrap` in tch.
fn message(panic: &(dyn Any + Send)) -> Option<String> {
    let quoted =
        panic.downcast_ref::<String>()?.strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"")?;
    // `Debug` has escaped the string. Other escapes are left: a terminal cannot show those
    // characters.
    Some(quoted.strip_suffix("\")")?.replace("\\n", "\n").replace("\\\"", "\"").replace("\\'", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AllocationFailure;
    use tch::{Device, Kind, Tensor};

    fn too_large() -> Tensor {
        Tensor::ones([1], (Kind::Float, Device::Cpu)).expand([1 << 58], false)
    }

    /// The reason for this module. If this test fails, tch has fixed the problem.
    #[test]
    fn tch_panics_where_a_number_is_passed() {
        assert!(too_large().f_neg().is_err());
        assert!(catch_unwind(|| too_large().f_mul_scalar(2.0).is_err()).is_err());
    }

    #[test]
    fn the_error_is_that_of_the_same_call_without_a_number() {
        let first_line = |error: TchError| error.to_string().lines().next().unwrap().to_owned();
        let expected = first_line(too_large().f_neg().unwrap_err());
        let caught = catch_scalar_panic(|| too_large().f_mul_scalar(2.0)).unwrap_err();
        assert!(
            AllocationFailure::recognise(&caught.to_string()).unwrap().requested_bytes == Some(1 << 60),
            "{caught}"
        );
        assert_eq!(first_line(caught), expected);
        // Two numbers and two nested calls. Afterwards libtorch has no pending error.
        let nested = || catch_scalar_panic(|| catch_scalar_panic(|| too_large().f_clamp(0.0, 1.0)));
        assert_eq!(first_line(nested().unwrap_err()), expected);
        assert_eq!(f64::try_from(Tensor::from(3.0) * 2.0).unwrap(), 6.0);
    }

    #[test]
    fn other_outcomes_are_left_as_they_are() {
        assert_eq!(catch_scalar_panic(|| Ok::<_, TchError>(1)).unwrap(), 1);
        let error = catch_scalar_panic(|| Err::<(), _>(TchError::Kind("own".to_owned()))).unwrap_err();
        assert!(matches!(error, TchError::Kind(text) if text == "own"));
        let panic = catch_unwind(|| catch_scalar_panic(|| -> Result<(), TchError> { panic!("other") })).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"other"));
    }
}
