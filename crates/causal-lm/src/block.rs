//! One decoder block: x + attention(norm(x)), then + mlp(norm(·)). Forward, what it keeps, and backward.

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

/// A block's parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) input_norm: ParameterId,
    pub(crate) q_proj: Linear,
    pub(crate) k_proj: Linear,
    pub(crate) v_proj: Linear,
    pub(crate) o_proj: Linear,
    pub(crate) post_attention_norm: ParameterId,
    pub(crate) gate_proj: Linear,
    pub(crate) up_proj: Linear,
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
        let bias = layer.bias.map(|bias| self.weight(bias)).transpose()?;
        linear::forward(x, &self.weight(layer.weight)?, bias.as_ref())
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

    fn linear_backward_into(&self, dx: &mut Tensor, dy: &Tensor, x: &Tensor, layer: Linear) -> Result<(), Error> {
        linear::backward_into(dx, dy, x, &self.weight(layer.weight)?, &mut self.linear_gradients(layer))
    }

    fn scale(&self) -> f64 {
        1.0 / (self.config.head_dim as f64).sqrt()
    }
}

/// Everything between a block's input and its last matrix product; the backward needs all of it.
pub(crate) struct Activations {
    input_reciprocal_rms: Tensor, // [n, 1]
    input_normed: Option<Tensor>, // [n, d]; None once given up by `without_norms`
    query: Tensor,                // [n, h, k], rotated
    key: Tensor,                  // [n, g, k], rotated
    value: Tensor,                // [n, g, k]
    attended: Tensor,             // [n, h k]
    attention: attention::Saved,
    middle: Tensor,                // [n, d], the residual stream after attention
    middle_reciprocal_rms: Tensor, // [n, 1]
    middle_normed: Option<Tensor>, // [n, d]; as input_normed
    gate: Tensor,                  // [n, f]
    up: Tensor,                    // [n, f]
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
    /// From the block's input `[n, d]` to all that its backward needs. The last product (`down_proj`) is not among it, so a block that is
    /// computed again for its backward leaves that one out.
    pub(crate) fn activations(&self, context: &Context<'_>, x: &Tensor) -> Result<Activations, Error> {
        let config = context.config;
        let epsilon = config.rms_norm_eps;
        let (input_normed, input_reciprocal_rms) = rms_norm::forward(x, &context.weight(self.input_norm)?, epsilon)?;
        let heads = |projected: Tensor, heads: i64| projected.f_view([-1, heads, config.head_dim]);
        let query = heads(context.linear(&input_normed, self.q_proj)?, config.num_attention_heads)?;
        let key = heads(context.linear(&input_normed, self.k_proj)?, config.num_key_value_heads)?;
        let value = heads(context.linear(&input_normed, self.v_proj)?, config.num_key_value_heads)?;
        let query = rope::forward(query, context.rotations)?;
        let key = rope::forward(key, context.rotations)?;
        let (attended, attention) =
            attention::forward(context.attention, (&query, &key, &value), context.rows, context.scale())?;
        let attended = attended.f_view([-1, config.num_attention_heads * config.head_dim])?;
        let (middle, middle_normed, middle_reciprocal_rms) = rms_norm::forward_of_sum(
            context.linear(&attended, self.o_proj)?,
            x,
            &context.weight(self.post_attention_norm)?,
            epsilon,
        )?;
        let gate = context.linear(&middle_normed, self.gate_proj)?;
        let up = context.linear(&middle_normed, self.up_proj)?;
        Ok(Activations {
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
            gate,
            up,
        })
    }

    /// The block's output `[n, d]`.
    pub(crate) fn output(&self, context: &Context<'_>, activations: &Activations) -> Result<Tensor, Error> {
        let gated = swiglu::forward(&activations.gate, &activations.up)?;
        Ok(context.linear(&gated, self.down_proj)?.f_add_(&activations.middle)?)
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

        // MLP
        let gated = swiglu::forward(&saved.gate, &saved.up)?; // cheaper than keeping [n, f]
        let d_gated = context.linear_backward(dy, &gated, self.down_proj)?;
        drop(gated);
        let (d_gate, d_up) = swiglu::backward(&d_gated, &saved.gate, &saved.up)?;
        drop(d_gated);
        let middle_normed = normed(&saved.middle_normed, &saved.middle, self.post_attention_norm)?;
        let mut d_normed = context.linear_backward(&d_gate, &middle_normed, self.gate_proj)?;
        context.linear_backward_into(&mut d_normed, &d_up, &middle_normed, self.up_proj)?;
        drop((d_gate, d_up, middle_normed));
        let d_middle = rms_norm::backward_plus(
            &d_normed,
            &saved.middle,
            &context.weight(self.post_attention_norm)?,
            &saved.middle_reciprocal_rms,
            &mut context.parameters.gradient(self.post_attention_norm),
            dy,
        )?;

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
        let flat = |heads: Tensor| heads.f_flatten(1, 2);
        let d_query = flat(rope::backward(d_query, context.rotations)?)?;
        let d_key = flat(rope::backward(d_key, context.rotations)?)?;
        let input_normed = normed(&saved.input_normed, x, self.input_norm)?;
        let mut d_normed = context.linear_backward(&d_query, &input_normed, self.q_proj)?;
        context.linear_backward_into(&mut d_normed, &d_key, &input_normed, self.k_proj)?;
        context.linear_backward_into(&mut d_normed, &flat(d_value)?, &input_normed, self.v_proj)?;
        let dx = rms_norm::backward_plus(
            &d_normed,
            x,
            &context.weight(self.input_norm)?,
            &saved.input_reciprocal_rms,
            &mut context.parameters.gradient(self.input_norm),
            &d_middle,
        )?;
        Ok(dx)
    }
}
