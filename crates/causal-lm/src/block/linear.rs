//! Linear layers of a block, alone or as one product.

use super::Context;
use crate::Error;
use crate::ops::linear;
use crate::parameters::{ParameterId, Parameters};
use tch::Tensor;

/// The parameters of a linear layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
}

/// Linear layers that have the same input. Their outputs are columns of one matrix.
///
/// Layers of the same shape whose weights lie side by side in the buffer are joined to one layer,
/// and so to one product: gate and up; q, k and v, or only k and v where there are more query
/// heads.
#[derive(Debug)]
pub(crate) struct FusedLinear(Vec<Linear>);

impl FusedLinear {
    pub(crate) fn new(parameters: &mut Parameters, layers: &[Linear]) -> Result<Self, Error> {
        let are_adjacent = |previous: &Linear, next: &Linear| {
            let biases = match (previous.bias, next.bias) {
                (None, None) => true,
                (Some(previous), Some(next)) => parameters.are_adjacent(previous, next),
                _ => false,
            };
            biases && parameters.are_adjacent(previous.weight, next.weight)
        };
        let runs: Vec<&[Linear]> = layers.chunk_by(are_adjacent).collect();
        let join = |run: &[Linear]| {
            let bias = run[0].bias.map(|bias| parameters.join(bias, run.len())).transpose()?;
            Ok(Linear { weight: parameters.join(run[0].weight, run.len())?, bias })
        };
        runs.into_iter().map(join).collect::<Result<_, Error>>().map(Self)
    }
}

impl Context<'_> {
    fn bias(&self, layer: Linear) -> Result<Option<Tensor>, Error> {
        layer.bias.map(|bias| self.weight(bias)).transpose()
    }

    pub(super) fn linear(&self, x: &Tensor, layer: Linear) -> Result<Tensor, Error> {
        linear::forward(x, &self.weight(layer.weight)?, self.bias(layer)?.as_ref())
    }

    pub(super) fn linear_gradients(&self, layer: Linear) -> linear::Gradients {
        linear::Gradients {
            weight: self.parameters.gradient(layer.weight),
            bias: layer.bias.map(|bias| self.parameters.gradient(bias)),
        }
    }

    pub(super) fn linear_backward(&self, dy: &Tensor, x: &Tensor, layer: Linear) -> Result<Tensor, Error> {
        let weight = &self.weight(layer.weight)?;
        linear::backward(dy, linear::Saved { x, weight }, &mut self.linear_gradients(layer))
    }

    pub(super) fn fused_linear(&self, x: &Tensor, layers: &FusedLinear) -> Result<Tensor, Error> {
        if let [layer] = layers.0[..] {
            return self.linear(x, layer);
        }
        let weights = layers.0.iter().map(|layer| self.weight(layer.weight)).collect::<Result<Vec<_>, _>>()?;
        let width: i64 = weights.iter().map(num_rows).sum();
        let y = Tensor::f_empty([num_rows(x), width], (x.f_kind()?, x.device()))?;
        let mut start = 0;
        for (layer, weight) in layers.0.iter().zip(&weights) {
            let columns = y.f_narrow(1, start, num_rows(weight))?;
            linear::forward_into(&columns, x, weight, self.bias(*layer)?.as_ref())?;
            start += num_rows(weight);
        }
        Ok(y)
    }

    pub(super) fn fused_linear_backward(&self, dy: &Tensor, x: &Tensor, layers: &FusedLinear) -> Result<Tensor, Error> {
        let (mut start, mut dx) = (0, None);
        for layer in &layers.0 {
            let weight = &self.weight(layer.weight)?;
            let columns = dy.f_narrow(1, start, num_rows(weight))?;
            let saved = linear::Saved { x, weight };
            let gradients = &mut self.linear_gradients(*layer);
            match &mut dx {
                None => dx = Some(linear::backward(&columns, saved, gradients)?),
                Some(dx) => linear::backward_into(dx, &columns, saved, gradients)?,
            }
            start += num_rows(weight);
        }
        match dx {
            Some(dx) => Ok(dx),
            None => Ok(x.f_zeros_like()?),
        }
    }
}

fn num_rows(matrix: &Tensor) -> i64 {
    matrix.size().first().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use tch::{Device, Kind};

    #[test]
    fn layers_of_one_shape_are_one_product() {
        let parameters = |heads: i64, key_heads: i64| {
            let json = serde_json::json!({
                "model_type": "qwen2", "vocab_size": 12, "hidden_size": 16, "intermediate_size": 16,
                "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": key_heads
            });
            let config = Config::from_json(json, "config.json".as_ref()).unwrap();
            Parameters::zeros(crate::layout::specs(&config), Kind::Float, Kind::Float, Device::Cpu).unwrap()
        };
        for (key_heads, expected) in [(4, vec![48]), (2, vec![16, 16])] {
            let mut parameters = parameters(4, key_heads);
            for layer in 0..2 {
                let linear = |part: &str, parameters: &Parameters| {
                    let find = |end| parameters.id(&format!("model.layers.{layer}.{part}.{end}"));
                    Linear { weight: find("weight").unwrap(), bias: find("bias") }
                };
                let mut heights = |parts: &[&str]| -> Vec<i64> {
                    let layers: Vec<Linear> = parts.iter().map(|part| linear(part, &parameters)).collect();
                    let layers = FusedLinear::new(&mut parameters, &layers).unwrap();
                    let height = |layer: &Linear| {
                        let weight = num_rows(&parameters.weight_as(layer.weight, Kind::Float).unwrap());
                        let bias = layer.bias.map(|bias| num_rows(&parameters.weight_as(bias, Kind::Float).unwrap()));
                        assert!(bias.is_none_or(|bias| bias == weight));
                        weight
                    };
                    layers.0.iter().map(height).collect()
                };
                assert_eq!(heights(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]), expected);
                assert_eq!(heights(&["mlp.gate_proj", "mlp.up_proj"]), [32]);
            }
        }
    }
}
