//! The elementwise part of a step, on flat float32 ranges that fit the cache.
//!
//! With gradient `g`, moments `m` and `v`, step `t` from 1
//! ([1412.6980](https://arxiv.org/abs/1412.6980), algorithm 1):
//! ```text
//!   m ← β1 m + (1 − β1) g          v ← β2 v + (1 − β2) g²
//! torch:  d = m / (√v / √(1 − β2ᵗ) + ε)    step = lr / (1 − β1ᵗ)                  decay before the update
//! GaLore: d = m / (√v + ε)                 step = lr √(1 − β2ᵗ) / (1 − β1ᵗ)       decay after the update
//! ```
//! galore-torch inherits the second form from the AdamW that transformers once had: ε acts on the
//! uncorrected `v`.

use crate::AdamConfig;
use crate::in_place::InPlace;
use tch::{TchError, Tensor};
use torch_ext::kernels::adam::Constants;

/// Which of the two AdamW formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Torch,
    GaLore,
}

/// The numbers of one step.
pub(crate) struct AdamStep {
    flavour: Flavour,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    root_correction2: f64,
    /// Factor on the direction.
    pub(crate) step_size: f64,
    /// Factor on the weights before the update, if any.
    pub(crate) decay_before: Option<f64>,
    /// Factor on the weights after the update, if any.
    pub(crate) decay_after: Option<f64>,
}

impl AdamStep {
    /// `step` counts from 1.
    pub(crate) fn new(flavour: Flavour, config: &AdamConfig, learning_rate: f64, step: i64) -> Self {
        let AdamConfig { beta1, beta2, epsilon, weight_decay, moments: _ } = *config;
        // powf, as Python's `**` does with a float base: powi may differ in the last bit.
        let correction1 = 1.0 - beta1.powf(step as f64);
        let root_correction2 = (1.0 - beta2.powf(step as f64)).sqrt();
        let step_size = match flavour {
            Flavour::Torch => learning_rate / correction1,
            Flavour::GaLore => learning_rate * root_correction2 / correction1,
        };
        let decay = (weight_decay > 0.0).then_some(1.0 - learning_rate * weight_decay);
        let (decay_before, decay_after) = match flavour {
            Flavour::Torch => (decay, None),
            Flavour::GaLore => (None, decay),
        };
        AdamStep { flavour, beta1, beta2, epsilon, root_correction2, step_size, decay_before, decay_after }
    }

    /// The same numbers for a kernel, with `step` as the factor on the direction and the key that
    /// moments are rounded with.
    pub(crate) fn constants(&self, step: f64, moments_key: u64) -> Constants {
        Constants {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            step,
            moments_key,
            root: if self.flavour == Flavour::Torch { self.root_correction2 } else { 1.0 },
            decay_before: self.decay_before.unwrap_or(1.0),
            decay_after: self.decay_after.unwrap_or(1.0),
        }
    }

    /// Takes a gradient into the moments.
    pub(crate) fn advance(
        &self,
        gradient: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
        work: &mut Tensor,
    ) -> Result<(), TchError> {
        first.f_lerp_(gradient, 1.0 - self.beta1).done()?;
        match self.flavour {
            // tch has no `addcmul_(g, g, value=1 − β2)`; scaling a factor first gives the same
            // roundings.
            Flavour::Torch => {
                gradient.f_mul_scalar_out(work, 1.0 - self.beta2).done()?;
                second.f_mul_scalar_(self.beta2).done()?;
                second.f_addcmul_(work, gradient).done()?;
            }
            // One pass less, and up to the last bit the same.
            Flavour::GaLore => {
                gradient.f_mul_out(work, gradient).done()?;
                second.f_lerp_(work, 1.0 - self.beta2).done()?;
            }
        }
        Ok(())
    }

    /// What the first moment is divided by.
    pub(crate) fn denominator(&self, second: &Tensor, out: &mut Tensor) -> Result<(), TchError> {
        second.f_sqrt_out(out).done()?;
        if self.flavour == Flavour::Torch {
            out.f_div_scalar_(self.root_correction2).done()?;
        }
        out.f_add_scalar_(self.epsilon).done()?;
        Ok(())
    }
}
