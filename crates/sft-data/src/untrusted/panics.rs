//! Turns a panic into an error: the only place where panics are caught. It is used around libraries
//! that panic on damaged or hostile files.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// A library panicked. Its message is about its own internals, so it is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the library that reads it gave up on it")]
pub(crate) struct Panicked;

/// Runs `work`. If it panics, returns an error and prints nothing.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    silence_caught_panics();
    let before = IS_CATCHING.replace(true);
    // After a panic, nothing that the closure was changing is used again.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IS_CATCHING.set(before);
    outcome.map_err(|_| Panicked)
}

/// Like [`catch`], for the tokenizers library. It panics on some files that it cannot parse, on
/// models without an unknown token, and when a regular expression takes too long.
pub(crate) fn catch_in_tokenizers<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch(work).unwrap_or_else(|panicked| Err(panicked.into()))
}

thread_local! {
    /// Whether this thread is inside [`catch`].
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Replaces the panic hook with one that prints nothing for panics that are caught here. All other
/// panics are still printed.
fn silence_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !IS_CATCHING.get() {
                report(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors_even_when_nested() {
        assert_eq!(catch(|| 1), Ok(1));
        assert_eq!(catch(|| catch(|| panic!("inner"))), Ok(Err::<(), _>(Panicked)));
        assert_eq!(catch(|| catch(|| ()).map(|()| panic!("outer"))), Err::<Result<(), _>, _>(Panicked));
    }
}
