//! The elementwise part of an AdamW step, on flat float32 ranges that fit the cache.
//!
//! With gradient `g`, weight `w`, moments `m` and `v`, learning rate `lr`, weight decay `λ`, and
//! step `t` counted from 1 (Adam: [1412.6980](https://arxiv.org/abs/1412.6980), algorithm 1;
//! decoupled decay: [1711.05101](https://arxiv.org/abs/1711.05101), algorithm 2):
//! ```text
//! both:    m ← β1 m + (1 − β1) g              v ← β2 v + (1 − β2) g²
//!
//! torch:   w ← (1 − lr λ) w                   then w ← w − s d
//!          d = m / (√v / √(1 − β2ᵗ) + ε)      s = lr / (1 − β1ᵗ)
//!
//! GaLore:  w ← w − s d                        then w ← (1 − lr λ) w
//!          d = m / (√v + ε)                   s = lr √(1 − β2ᵗ) / (1 − β1ᵗ)
//! ```
//! galore-torch has the second form from the AdamW that transformers once had. There ε is added to
//! the root of the uncorrected `v`. bitsandbytes computes torch's step in the second form, with
//! `ε √(1 − β2ᵗ)` in place of `ε`, and decays after it.

use crate::AdamConfig;
use tch::{TchError, Tensor};

/// One of the AdamW formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdamFormula {
    Torch,
    GaLore,
    BitsAndBytes,
}

/// The constants of one step.
pub(crate) struct AdamStep {
    formula: AdamFormula,
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    /// What √v is divided by before ε is added.
    pub(crate) root_divisor: f64,
    /// `s`, the factor on the direction.
    pub(crate) step_size: f64,
    /// Factor on the weights before the update, if any.
    pub(crate) decay_before: Option<f64>,
    /// Factor on the weights after the update, if any.
    pub(crate) decay_after: Option<f64>,
}

impl AdamStep {
    /// `step` counts from 1.
    pub(crate) fn new(formula: AdamFormula, config: &AdamConfig, learning_rate: f64, step: i64) -> Self {
        let AdamConfig { beta1, beta2, epsilon, weight_decay, moments: _ } = *config;
        // powf, as Python's `**` does with a float base: powi may differ in the last bit.
        let correction1 = 1.0 - beta1.powf(step as f64);
        let root_correction2 = (1.0 - beta2.powf(step as f64)).sqrt();
        let (step_size, root_divisor) = match formula {
            AdamFormula::Torch => (learning_rate / correction1, root_correction2),
            AdamFormula::GaLore | AdamFormula::BitsAndBytes => (learning_rate * root_correction2 / correction1, 1.0),
        };
        let epsilon = match formula {
            AdamFormula::Torch | AdamFormula::GaLore => epsilon,
            AdamFormula::BitsAndBytes => epsilon * root_correction2,
        };
        let decay = (weight_decay > 0.0).then_some(1.0 - learning_rate * weight_decay);
        let (decay_before, decay_after) = match formula {
            AdamFormula::Torch => (decay, None),
            AdamFormula::GaLore | AdamFormula::BitsAndBytes => (None, decay),
        };
        AdamStep { formula, beta1, beta2, epsilon, root_divisor, step_size, decay_before, decay_after }
    }

    /// Updates the moments from a gradient. `work` is a buffer of the same length.
    pub(crate) fn advance(
        &self,
        gradient: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
        work: &mut Tensor,
    ) -> Result<(), TchError> {
        first.f_lerp_(gradient, 1.0 - self.beta1).map(drop)?;
        match self.formula {
            // tch has no `addcmul_(g, g, value=1 − β2)`. Scaling one factor first rounds the same.
            AdamFormula::Torch => {
                gradient.f_mul_scalar_out(work, 1.0 - self.beta2).map(drop)?;
                second.f_mul_scalar_(self.beta2).map(drop)?;
                second.f_addcmul_(work, gradient).map(drop)?;
            }
            // This takes one pass less and may differ in the last bit.
            AdamFormula::GaLore | AdamFormula::BitsAndBytes => {
                gradient.f_mul_out(work, gradient).map(drop)?;
                second.f_lerp_(work, 1.0 - self.beta2).map(drop)?;
            }
        }
        Ok(())
    }

    /// Writes what the first moment is divided by to `out`.
    pub(crate) fn denominator(&self, second: &Tensor, out: &mut Tensor) -> Result<(), TchError> {
        second.f_sqrt_out(out).map(drop)?;
        if self.formula == AdamFormula::Torch {
            out.f_div_scalar_(self.root_divisor).map(drop)?;
        }
        out.f_add_scalar_(self.epsilon).map(drop)?;
        Ok(())
    }
}
