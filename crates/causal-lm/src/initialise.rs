//! New weights, drawn as transformers draws them: normal with `initializer_range` for matrices,
//! ones for norms (zeros where a norm multiplies with 1 + w), zeros for biases.

use crate::ops::norm::Gain;
use crate::{CausalLm, Error, ParameterKind};
use std::sync::{Mutex, PoisonError};
use torch_ext::catch_scalar_panic;

/// All threads share libtorch's generator, so one model draws at a time.
static DRAWING: Mutex<()> = Mutex::new(());

impl CausalLm {
    /// Overwrites all weights with new ones. Equal seeds give equal weights, in whatever threads
    /// models are made: libtorch's generator is seeded first.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn initialise(&mut self, seed: i64) -> Result<(), Error> {
        let _one_at_a_time = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(seed);
        let deviation = self.config().initializer_range;
        let norm = if self.config().recipe.gain == Gain::WideOnePlus { 0.0 } else { 1.0 };
        for (spec, weight) in self.parameters().specs().iter().zip(self.parameters().weights()) {
            let mut weight = weight.shallow_clone();
            let _ = match spec.kind {
                ParameterKind::Linear | ParameterKind::Head | ParameterKind::Embedding => {
                    weight.f_normal_(0.0, deviation)?
                }
                ParameterKind::Norm => catch_scalar_panic(|| weight.f_fill_(norm))?,
                ParameterKind::Bias => weight.f_zero_()?,
            };
        }
        Ok(())
    }
}
