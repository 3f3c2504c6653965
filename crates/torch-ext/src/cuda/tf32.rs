//! TF32 products, for as long as a value lives.

use crate::{Error, shim};

/// While this value lives, float32 matrix products on CUDA round their operands to TF32: 10 bits
/// of mantissa, sums in float32, and several times the speed.
///
/// The setting holds for the whole process. Dropping the value restores the setting before it.
#[derive(Debug)]
pub struct AllowTf32 {
    before: bool,
}

impl AllowTf32 {
    /// Allows TF32.
    ///
    /// # Errors
    /// [`Error::Torch`] when libtorch refuses.
    pub fn new() -> Result<Self, Error> {
        // SAFETY: takes no pointer.
        let before = unsafe { shim::torch_ext_allow_tf32() };
        set_allow_tf32(true)?;
        Ok(Self { before })
    }
}

impl Drop for AllowTf32 {
    fn drop(&mut self) {
        // This cannot fail: libtorch accepted the same call in `new`.
        let _ = set_allow_tf32(self.before);
    }
}

fn set_allow_tf32(allow: bool) -> Result<(), Error> {
    // SAFETY: takes no pointer.
    shim::check("set_allow_tf32", unsafe { shim::torch_ext_set_allow_tf32(allow) })
}
