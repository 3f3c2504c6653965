//! In-place operations return a second handle of the tensor they changed, which is of no use.

use tch::{TchError, Tensor};

pub(crate) trait InPlace {
    /// Drops the handle and keeps the error.
    fn done(self) -> Result<(), TchError>;
}

impl InPlace for Result<Tensor, TchError> {
    fn done(self) -> Result<(), TchError> {
        self.map(drop)
    }
}
