//! Whether all weights are finite numbers.

use crate::{CausalLm, Error};
use tch::{Kind, Tensor};

/// Weights summed in float64 at a time. On a GPU the sum first makes a float64 copy, so the whole
/// buffer at once would take up to four times the weights' memory.
const PIECE_ELEMENTS: usize = 16 << 20;

impl CausalLm {
    /// Checks that no weight is infinite or NaN.
    ///
    /// # Errors
    /// [`Error::NotFinite`] names the first parameter that has such a value; [`Error::Torch`] from
    /// libtorch.
    pub fn check_finite(&self) -> Result<(), Error> {
        let parameters = self.parameters();
        if is_finite(parameters.flat_weights())? {
            return Ok(());
        }
        for (spec, weight) in parameters.specs().iter().zip(parameters.weights()) {
            if !is_finite(weight)? {
                return Err(Error::NotFinite { name: spec.name.clone() });
            }
        }
        Ok(())
    }
}

/// A sum is not finite as soon as one of its terms is not. A float64 sum of finite weights is
/// finite.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool, Error> {
    let flat = tensor.f_view([-1])?;
    // First in the weights' own type, which needs no copy. It may overflow, so only a finite sum
    // decides. Float16 would overflow soon: its sum is taken in float32.
    let kind = if flat.f_kind()? == Kind::Half { Kind::Float } else { flat.f_kind()? };
    if flat.f_sum(kind)?.f_double_value(&[])?.is_finite() {
        return Ok(true);
    }
    let length = flat.size1()?;
    let mut total = Tensor::f_zeros([0i64; 0], (Kind::Double, flat.device()))?;
    for start in (0..length).step_by(PIECE_ELEMENTS) {
        let piece = flat.f_narrow(0, start, (length - start).min(PIECE_ELEMENTS as i64))?;
        total = total.f_add(&piece.f_sum(Kind::Double)?)?;
    }
    Ok(total.f_double_value(&[])?.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, ModelOptions};

    #[test]
    fn only_values_that_are_not_finite_are_errors_and_their_parameter_is_named() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let json = serde_json::json!({
                "model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
                "num_hidden_layers": 2, "num_attention_heads": 2
            });
            let config = Config::from_json(json, "config.json".as_ref()).unwrap();
            let model = CausalLm::zeros(config, ModelOptions { dtype: Some(kind), ..Default::default() }).unwrap();
            model.check_finite().unwrap();
            // The largest values there are: their sum overflows in their own type.
            let largest = if kind == Kind::Half { 65504.0 } else { 3e38 };
            let _ = model.parameters().flat_weights().shallow_clone().fill_(largest);
            model.check_finite().unwrap();
            for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let place = model.parameters().weights()[5].view([-1]).narrow(0, 3, 1);
                let before = place.copy();
                let _ = place.shallow_clone().fill_(wrong);
                let expected = &model.parameters().specs()[5].name;
                let found = model.check_finite();
                assert!(matches!(&found, Err(Error::NotFinite { name }) if name == expected), "{kind:?} {found:?}");
                place.shallow_clone().copy_(&before);
            }
        }
    }
}
