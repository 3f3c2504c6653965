//! The one place where a panic becomes an error: around libraries that assert on damaged or hostile
//! files instead of returning one.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// A library panicked. What it said is about its own inside and helps nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the library that reads it gave up on it")]
pub(crate) struct Panicked;

/// Runs `work`, and returns its panic as an error without a word on stderr.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    silence_panics_while_guarded();
    let before = GUARDED.replace(true);
    // Whatever the closure leaves half done is given up with the error.
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    outcome.map_err(|_| Panicked)
}

/// As [`guarded`], for work of the tokenizers library, which asserts on files it cannot parse and
/// on models without an unknown token.
pub(crate) fn guarded_tokenizer<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    guarded(work).unwrap_or_else(|panicked| Err(panicked.into()))
}

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// A panic that becomes an error must not be reported as one besides; all others still are.
fn silence_panics_while_guarded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                report(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_also_one_inside_another() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(guarded(|| guarded(|| panic!("inner"))), Ok(Err::<(), _>(Panicked)));
        assert_eq!(guarded(|| guarded(|| ()).map(|()| panic!("outer"))), Err::<Result<(), _>, _>(Panicked));
    }
}
