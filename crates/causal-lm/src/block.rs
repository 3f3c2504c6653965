//! One decoder block: y = x + attention(norm(x)), then y + mlp(norm(y)). Its forward, what that
//! keeps, and its backward.

mod activations;
mod linear;

pub(crate) use activations::Activations;
pub(crate) use linear::{FusedLinear, Linear};

use crate::ops::attention::{self, AttentionKind};
use crate::ops::{self, rms_norm, rope, swiglu};
use crate::parameters::{ParameterId, Parameters};
use crate::{Config, Error, RowLayout};
use tch::{Kind, Tensor};

/// A block's parameters.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) input_norm: ParameterId,
    pub(crate) qkv_proj: FusedLinear,
    pub(crate) o_proj: Linear,
    pub(crate) post_attention_norm: ParameterId,
    pub(crate) gate_up_proj: FusedLinear,
    pub(crate) down_proj: Linear,
}

/// What all blocks share during one pass over a batch.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) parameters: &'a Parameters,
    pub(crate) rotations: &'a rope::Rotations,
    pub(crate) rows: &'a RowLayout,
    pub(crate) attention: AttentionKind,
    pub(crate) compute: Kind,
}

impl Context<'_> {
    fn weight(&self, id: ParameterId) -> Result<Tensor, Error> {
        self.parameters.weight_as(id, self.compute)
    }

    fn attention_inputs<'a>(&'a self, query: &'a Tensor, key: &'a Tensor, value: &'a Tensor) -> attention::Inputs<'a> {
        let scale = 1.0 / (self.config.head_dim as f64).sqrt();
        attention::Inputs { query, key, value, rows: self.rows, scores: attention::Scores::scaled(scale) }
    }
}

/// The residual stream before a block: the sum of both fields, each `[n, d]`.
pub(crate) struct ResidualStream {
    pub(crate) x: Tensor,
    /// Still to be added to `x`. The norm that follows adds it, which saves a pass over memory.
    pub(crate) pending: Option<Tensor>,
}

impl ResidualStream {
    pub(crate) fn sum(self) -> Result<Tensor, Error> {
        let Self { mut x, pending } = self;
        match pending {
            Some(pending) => Ok(x.f_add_(&pending)?),
            None => Ok(x),
        }
    }
}

impl Block {
    /// The block's input `[n, d]`, and everything else that its backward needs.
    ///
    /// The last product (`down_proj`) is left to [`Self::output`]: a block that is computed again
    /// for its backward does not need it.
    pub(crate) fn activations(
        &self,
        context: &Context<'_>,
        stream: ResidualStream,
    ) -> Result<(Tensor, Activations), Error> {
        let config = context.config;
        let epsilon = config.rms_norm_eps;
        let weight = context.weight(self.input_norm)?;
        let (x, input_normed, input_reciprocal_rms) = match stream {
            ResidualStream { x, pending: Some(pending) } => rms_norm::forward_of_sum(x, &pending, &weight, epsilon)?,
            ResidualStream { x, pending: None } => {
                let (normed, reciprocal_rms) = rms_norm::forward(&x, &weight, epsilon)?;
                (x, normed, reciprocal_rms)
            }
        };
        let (h, g, k) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let mut qkv = context.fused_linear(&input_normed, &self.qkv_proj)?.f_view([-1, h + 2 * g, k])?;
        rope::forward(&mut qkv, h + g, context.rotations)?;
        let heads = |start, heads| qkv.f_narrow(1, start, heads);
        let (query, key, value) = (heads(0, h)?, heads(h, g)?, heads(h + g, g)?);
        let inputs = context.attention_inputs(&query, &key, &value);
        let (attended, attention) = attention::forward(context.attention, inputs)?;
        let attended = attended.f_view([-1, h * k])?;
        let (middle, middle_normed, middle_reciprocal_rms) = rms_norm::forward_of_sum(
            context.linear(&attended, self.o_proj)?,
            &x,
            &context.weight(self.post_attention_norm)?,
            epsilon,
        )?;
        let gate_up = context.fused_linear(&middle_normed, &self.gate_up_proj)?;
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

    /// The residual stream after the block.
    pub(crate) fn output(&self, context: &Context<'_>, activations: &Activations) -> Result<ResidualStream, Error> {
        let gated = swiglu::forward(&activations.gate_up)?;
        let pending = Some(activations.middle.shallow_clone());
        Ok(ResidualStream { x: context.linear(&gated, self.down_proj)?, pending })
    }

    /// From dy, the gradient of the output, and the input x, both `[n, d]`: dx. Adds the gradients
    /// of the block's parameters to their buffers.
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
        let (d_gate_up, gated) = swiglu::backward(ops::linear::input_gradient(dy, &down_proj)?, &saved.gate_up)?;
        ops::linear::add_weight_gradients(dy, &gated, &mut context.linear_gradients(self.down_proj))?;
        drop((down_proj, gated));
        let middle_normed = normed(&saved.middle_normed, &saved.middle, self.post_attention_norm)?;
        let d_normed = context.fused_linear_backward(&d_gate_up, &middle_normed, &self.gate_up_proj)?;
        drop((d_gate_up, middle_normed));
        let d_middle =
            norm_backward(&d_normed, (&saved.middle, &saved.middle_reciprocal_rms), self.post_attention_norm, dy)?;

        // Attention
        let d_attended = context.linear_backward(&d_middle, &saved.attended, self.o_proj)?;
        let d_attended = d_attended.f_view_as(&saved.query)?;
        let inputs = context.attention_inputs(&saved.query, &saved.key, &saved.value);
        let gradients = attention::backward(&d_attended, inputs, &saved.attention)?;
        let rotated = [&gradients.query, &gradients.key, &gradients.value];
        let d_qkv = rope::backward(rotated, context.rotations)?.f_flatten(1, 2)?;
        drop(gradients);
        let input_normed = normed(&saved.input_normed, x, self.input_norm)?;
        let d_normed = context.fused_linear_backward(&d_qkv, &input_normed, &self.qkv_proj)?;
        norm_backward(&d_normed, (x, &saved.input_reciprocal_rms), self.input_norm, &d_middle)
    }
}
