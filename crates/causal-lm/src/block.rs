//! One decoder block: x + attention(norm(x)), then + mlp(norm(·)). Forward, what it keeps, and
//! backward.

use crate::ops::{attention, linear, rms_norm, rope, swiglu};
use crate::parameters::{ParameterId, Parameters};
use crate::{Config, Error, Rows};
use attention::AttentionKind;
use tch::{Kind, Tensor};

/// A linear layer's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear {
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
}

/// Linear layers of one input, whose outputs are the columns of one matrix. Those of one shape,
/// whose weights lie side by side, are one layer here and so one product: gate and up; q, k and v,
/// or k and v where query heads are more.
#[derive(Debug)]
pub(crate) struct SideBySide(Vec<Linear>);

impl SideBySide {
    pub(crate) fn new(parameters: &mut Parameters, layers: &[Linear]) -> Result<Self, Error> {
        let adjoin = |previous: &Linear, next: &Linear| {
            let biases = match (previous.bias, next.bias) {
                (None, None) => true,
                (Some(previous), Some(next)) => parameters.adjoin(previous, next),
                _ => false,
            };
            biases && parameters.adjoin(previous.weight, next.weight)
        };
        let runs: Vec<&[Linear]> = layers.chunk_by(adjoin).collect();
        let join = |run: &[Linear]| {
            let bias = run[0].bias.map(|bias| parameters.join(bias, run.len())).transpose()?;
            Ok(Linear { weight: parameters.join(run[0].weight, run.len())?, bias })
        };
        runs.into_iter().map(join).collect::<Result<_, Error>>().map(Self)
    }
}

/// A block's parameters.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) input_norm: ParameterId,
    pub(crate) qkv_proj: SideBySide,
    pub(crate) o_proj: Linear,
    pub(crate) post_attention_norm: ParameterId,
    pub(crate) gate_up_proj: SideBySide,
    pub(crate) down_proj: Linear,
}

/// What all blocks share during one pass over a batch.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) parameters: &'a Parameters,
    pub(crate) rotations: &'a rope::Rotations,
    pub(crate) rows: &'a Rows,
    pub(crate) attention: AttentionKind,
    pub(crate) compute: Kind,
}

impl Context<'_> {
    fn weight(&self, id: ParameterId) -> Result<Tensor, Error> {
        self.parameters.weight_as(id, self.compute)
    }

    fn linear(&self, x: &Tensor, layer: Linear) -> Result<Tensor, Error> {
        linear::forward(x, &self.weight(layer.weight)?, self.bias(layer)?.as_ref())
    }

    fn bias(&self, layer: Linear) -> Result<Option<Tensor>, Error> {
        layer.bias.map(|bias| self.weight(bias)).transpose()
    }

    fn linear_gradients(&self, layer: Linear) -> linear::Gradients {
        linear::Gradients {
            weight: self.parameters.gradient(layer.weight),
            bias: layer.bias.map(|bias| self.parameters.gradient(bias)),
        }
    }

    fn linear_backward(&self, dy: &Tensor, x: &Tensor, layer: Linear) -> Result<Tensor, Error> {
        linear::backward(dy, x, &self.weight(layer.weight)?, &mut self.linear_gradients(layer))
    }

    fn side_by_side(&self, x: &Tensor, layers: &SideBySide) -> Result<Tensor, Error> {
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

    fn side_by_side_backward(&self, dy: &Tensor, x: &Tensor, layers: &SideBySide) -> Result<Tensor, Error> {
        let (mut start, mut dx) = (0, None);
        for layer in &layers.0 {
            let weight = self.weight(layer.weight)?;
            let columns = dy.f_narrow(1, start, num_rows(&weight))?;
            let gradients = &mut self.linear_gradients(*layer);
            match &mut dx {
                None => dx = Some(linear::backward(&columns, x, &weight, gradients)?),
                Some(dx) => linear::backward_into(dx, &columns, x, &weight, gradients)?,
            }
            start += num_rows(&weight);
        }
        match dx {
            Some(dx) => Ok(dx),
            None => Ok(x.f_zeros_like()?),
        }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.config.head_dim as f64).sqrt()
    }
}

/// The residual stream before a block.
pub(crate) struct Stream {
    /// `[n, d]`.
    pub(crate) x: Tensor,
    /// What is still to be added to `x`. The norm that reads both does it on its way.
    pub(crate) residual: Option<Tensor>,
}

impl Stream {
    pub(crate) fn sum(self) -> Result<Tensor, Error> {
        let Self { mut x, residual } = self;
        match residual {
            Some(residual) => Ok(x.f_add_(&residual)?),
            None => Ok(x),
        }
    }
}

fn num_rows(matrix: &Tensor) -> i64 {
    matrix.size().first().copied().unwrap_or(0)
}

/// Everything between a block's input and its last matrix product; the backward needs all of it.
pub(crate) struct Activations {
    input_reciprocal_rms: Tensor, // [n, 1]
    input_normed: Option<Tensor>, // [n, d]; None once given up by `without_norms`
    query: Tensor,                // [n, h, k], rotated; with key and value a view of [n, h + 2 g, k]
    key: Tensor,                  // [n, g, k], rotated
    value: Tensor,                // [n, g, k]
    attended: Tensor,             // [n, h k]
    attention: attention::Saved,
    middle: Tensor,                // [n, d], the residual stream after attention
    middle_reciprocal_rms: Tensor, // [n, 1]
    middle_normed: Option<Tensor>, // [n, d]; as input_normed
    gate_up: Tensor,               // [n, 2 f]
}

impl Activations {
    /// Gives up what one pass over memory brings back.
    pub(crate) fn without_norms(self) -> Self {
        Self { input_normed: None, middle_normed: None, ..self }
    }

    /// Bytes of all this for one token, without what [`Self::without_norms`] gives up, and of that.
    pub(crate) fn bytes_per_token(config: &Config, compute: Kind) -> [u64; 2] {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (query, key) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let element = compute.elt_size_in_bytes() as u64;
        let bytes = |elements: i64| u64::try_from(elements).unwrap_or(0) * element;
        // Attention's logsumexp of each head and the two reciprocal norms are float32.
        let statistics = 4 * u64::try_from(config.num_attention_heads + 2).unwrap_or(0);
        [bytes(2 * query + 2 * key + d + 2 * f) + statistics, bytes(2 * d)]
    }
}

impl Block {
    /// The block's input `[n, d]` and all else that its backward needs. The last product
    /// (`down_proj`) is not among it, so a block that is computed again for its backward leaves
    /// that one out.
    pub(crate) fn activations(&self, context: &Context<'_>, stream: Stream) -> Result<(Tensor, Activations), Error> {
        let config = context.config;
        let epsilon = config.rms_norm_eps;
        let weight = context.weight(self.input_norm)?;
        let (x, input_normed, input_reciprocal_rms) = match stream {
            Stream { x, residual: Some(residual) } => rms_norm::forward_of_sum(x, &residual, &weight, epsilon)?,
            Stream { x, residual: None } => {
                let (normed, reciprocal_rms) = rms_norm::forward(&x, &weight, epsilon)?;
                (x, normed, reciprocal_rms)
            }
        };
        let (h, g, k) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let mut qkv = context.side_by_side(&input_normed, &self.qkv_proj)?.f_view([-1, h + 2 * g, k])?;
        rope::forward(&mut qkv, h + g, context.rotations)?;
        let heads = |start, heads| qkv.f_narrow(1, start, heads);
        let (query, key, value) = (heads(0, h)?, heads(h, g)?, heads(h + g, g)?);
        let (attended, attention) =
            attention::forward(context.attention, (&query, &key, &value), context.rows, context.scale())?;
        let attended = attended.f_view([-1, h * k])?;
        let (middle, middle_normed, middle_reciprocal_rms) = rms_norm::forward_of_sum(
            context.linear(&attended, self.o_proj)?,
            &x,
            &context.weight(self.post_attention_norm)?,
            epsilon,
        )?;
        let gate_up = context.side_by_side(&middle_normed, &self.gate_up_proj)?;
        let activations = Activations {
            input_reciprocal_rms,
            input_normed: Some(input_normed),
            query,
            key,
            value,
            attended,
            attention,
            middle,
            middle_reciprocal_rms,
            middle_normed: Some(middle_normed),
            gate_up,
        };
        Ok((x, activations))
    }

    /// The stream after the block.
    pub(crate) fn output(&self, context: &Context<'_>, activations: &Activations) -> Result<Stream, Error> {
        let gated = swiglu::forward(&activations.gate_up)?;
        let residual = Some(activations.middle.shallow_clone());
        Ok(Stream { x: context.linear(&gated, self.down_proj)?, residual })
    }

    /// dy and x `[n, d]` → dx; adds the gradients of the block's parameters.
    pub(crate) fn backward(
        &self,
        context: &Context<'_>,
        dy: &Tensor,
        x: &Tensor,
        saved: &Activations,
    ) -> Result<Tensor, Error> {
        let normed = |kept: &Option<Tensor>, x: &Tensor, weight: ParameterId| match kept {
            Some(kept) => Ok(kept.shallow_clone()),
            None => {
                rms_norm::forward(x, &context.weight(weight)?, context.config.rms_norm_eps).map(|(normed, _)| normed)
            }
        };

        let norm_backward =
            |dy: &Tensor, (x, reciprocal_rms): (&Tensor, &Tensor), weight: ParameterId, residual: &Tensor| {
                let mut gradient = context.parameters.gradient(weight);
                let weight = &context.weight(weight)?;
                let saved = rms_norm::Saved { x, weight, reciprocal_rms };
                rms_norm::backward(dy, saved, Some(residual), &mut gradient)
            };

        // MLP
        let down_proj = context.weight(self.down_proj.weight)?;
        let (d_gate_up, gated) = swiglu::backward(linear::input_gradient(dy, &down_proj)?, &saved.gate_up)?;
        linear::add_weight_gradients(dy, &gated, &mut context.linear_gradients(self.down_proj))?;
        drop((down_proj, gated));
        let middle_normed = normed(&saved.middle_normed, &saved.middle, self.post_attention_norm)?;
        let d_normed = context.side_by_side_backward(&d_gate_up, &middle_normed, &self.gate_up_proj)?;
        drop((d_gate_up, middle_normed));
        let d_middle =
            norm_backward(&d_normed, (&saved.middle, &saved.middle_reciprocal_rms), self.post_attention_norm, dy)?;

        // Attention
        let d_attended = context.linear_backward(&d_middle, &saved.attended, self.o_proj)?;
        let d_attended = d_attended.f_view_as(&saved.query)?;
        let (d_query, d_key, d_value) = attention::backward(
            &d_attended,
            (&saved.query, &saved.key, &saved.value),
            &saved.attention,
            context.rows,
            context.scale(),
        )?;
        let d_qkv = rope::backward([&d_query, &d_key, &d_value], context.rotations)?.f_flatten(1, 2)?;
        let input_normed = normed(&saved.input_normed, x, self.input_norm)?;
        let d_normed = context.side_by_side_backward(&d_qkv, &input_normed, &self.qkv_proj)?;
        norm_backward(&d_normed, (x, &saved.input_reciprocal_rms), self.input_norm, &d_middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

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
                    let layers = SideBySide::new(&mut parameters, &layers).unwrap();
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
