//! One decoder block, as its family's recipe declares it: y = x + attention(norm(x)), then y +
//! mlp(norm(y)), with norms before attention and MLP, after them, or both. Its forward, what that
//! keeps, and its backward.

mod activations;
mod linear;

pub(crate) use activations::Activations;
pub(crate) use linear::{FusedLinear, Linear};

use crate::families::{Layer, Recipe, Rotation};
use crate::ops::attention::{self, AttentionKind};
use crate::ops::glu::{self, Gate};
use crate::ops::norm::{self, Norm, NormKind};
use crate::ops::qk_norm::{self, Over, QkNorm};
use crate::ops::{self, rope};
use crate::parameters::{ParameterId, Parameters};
use crate::{Config, Error, RowLayout};
use tch::{Kind, Tensor};

/// A block's parameters, and what is particular to it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) layer: Layer,
    pub(crate) norms: Norms,
    /// What the norms of queries and keys go over, and their weights.
    pub(crate) qk_norm: Option<(Over, [ParameterId; 2])>,
    pub(crate) qkv_proj: FusedLinear,
    pub(crate) o_proj: Linear,
    pub(crate) gate_up_proj: FusedLinear,
    pub(crate) down_proj: Linear,
}

/// The norms that a block has.
#[derive(Debug)]
pub(crate) struct Norms {
    /// Before attention.
    pub(crate) input: Option<ParameterId>,
    /// Of attention's output.
    pub(crate) attention_output: Option<ParameterId>,
    /// Before the MLP.
    pub(crate) mlp: Option<ParameterId>,
    /// Of the MLP's output.
    pub(crate) mlp_output: Option<ParameterId>,
}

/// What all blocks share during one pass over a batch.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) parameters: &'a Parameters,
    pub(crate) rotations: &'a Rotations,
    pub(crate) rows: &'a RowLayout,
    pub(crate) attention: AttentionKind,
    pub(crate) compute: Kind,
}

/// The rotations of a batch's tokens, for each kind of layer.
pub(crate) struct Rotations {
    pub(crate) main: rope::Rotations,
    pub(crate) local: rope::Rotations,
    pub(crate) none: rope::Rotations,
}

impl Rotations {
    fn of(&self, rotation: Rotation) -> &rope::Rotations {
        match rotation {
            Rotation::Main => &self.main,
            Rotation::Local => &self.local,
            Rotation::None => &self.none,
        }
    }
}

impl Context<'_> {
    fn weight(&self, id: ParameterId) -> Result<Tensor, Error> {
        self.parameters.weight_as(id, self.compute)
    }

    fn recipe(&self) -> &Recipe {
        &self.config.recipe
    }

    /// A norm over the width with this weight.
    fn norm<'w>(&self, weight: &'w Tensor) -> Norm<'w> {
        Norm { kind: NormKind::Rms(self.recipe().gain), weight, bias: None, epsilon: self.config.rms_norm_eps }
    }

    fn norm_gradients(&self, id: ParameterId) -> norm::Gradients {
        norm::Gradients { weight: self.parameters.gradient(id), bias: None }
    }

    fn unit(&self) -> glu::Unit {
        glu::Unit { activation: self.config.activation, gate: Gate::Gated }
    }

    /// What is added to the residual stream, from the output of attention or MLP.
    fn branch(&self, output: Tensor, output_norm: Option<ParameterId>) -> Result<Tensor, Error> {
        let output = match output_norm {
            Some(id) => norm::forward(&output, self.norm(&self.weight(id)?))?.0,
            None => output,
        };
        scaled(output, self.recipe().residual_multiplier)
    }

    /// From the gradient of [`Self::branch`] that of `output`, which is computed again if a norm
    /// needs it.
    fn branch_backward(
        &self,
        d_branch: &Tensor,
        output_norm: Option<ParameterId>,
        output: impl FnOnce() -> Result<Tensor, Error>,
    ) -> Result<Tensor, Error> {
        let multiplier = self.recipe().residual_multiplier;
        let d_branch = if multiplier == 1.0 { d_branch.shallow_clone() } else { d_branch.f_mul_scalar(multiplier)? };
        let Some(id) = output_norm else { return Ok(d_branch) };
        let (weight, x) = (self.weight(id)?, output()?);
        let norm = self.norm(&weight);
        let (_, statistics) = norm::forward(&x, norm)?;
        norm::backward(
            &d_branch,
            norm::Saved { x: &x, norm, statistics: &statistics },
            None,
            &mut self.norm_gradients(id),
        )
    }

    fn heads<'q>(&self, qkv: &'q Tensor) -> qk_norm::Heads<'q> {
        let Config { num_attention_heads, num_key_value_heads, .. } = *self.config;
        qk_norm::Heads { qkv, num_query: num_attention_heads, num_key: num_key_value_heads }
    }

    fn qk_norm<'w>(&self, over: Over, [query, key]: &'w [Tensor; 2]) -> QkNorm<'w> {
        QkNorm { over, gain: self.recipe().gain, weights: [query, key], epsilon: self.config.rms_norm_eps }
    }

    fn weights(&self, [query, key]: [ParameterId; 2]) -> Result<[Tensor; 2], Error> {
        Ok([self.weight(query)?, self.weight(key)?])
    }

    fn attention_inputs<'t>(&'t self, layer: Layer, [query, key, value]: [&'t Tensor; 3]) -> attention::Inputs<'t> {
        let scores =
            attention::Scores { window: layer.window, ..attention::Scores::scaled(self.recipe().attention_scale) };
        attention::Inputs { query, key, value, rows: self.rows, scores }
    }
}

/// The product with a factor, which is 1 in most models. Reuses the memory.
pub(crate) fn scaled(mut tensor: Tensor, factor: f64) -> Result<Tensor, Error> {
    if factor != 1.0 {
        let _ = tensor.f_mul_scalar_(factor)?;
    }
    Ok(tensor)
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

    /// The sum, its norm if there is one, and what the norm's backward needs.
    fn normed(
        self,
        context: &Context<'_>,
        norm: Option<ParameterId>,
    ) -> Result<(Tensor, Tensor, Option<norm::Statistics>), Error> {
        let Some(id) = norm else {
            let x = self.sum()?;
            return Ok((x.shallow_clone(), x, None));
        };
        let weight = context.weight(id)?;
        let norm = context.norm(&weight);
        let (x, normed, statistics) = match self {
            Self { x, pending: Some(pending) } => norm::forward_of_sum(x, &pending, norm)?,
            Self { x, pending: None } => {
                let (normed, statistics) = norm::forward(&x, norm)?;
                (x, normed, statistics)
            }
        };
        Ok((x, normed, Some(statistics)))
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
        let (x, input_normed, input_statistics) = stream.normed(context, self.norms.input)?;
        let (h, g, k) = (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let mut qkv = context.fused_linear(&input_normed, &self.qkv_proj)?.f_view([-1, h + 2 * g, k])?;
        let qk_norm = match self.qk_norm {
            None => None,
            Some((over, ids)) => {
                let weights = context.weights(ids)?;
                let (normed, saved) = qk_norm::forward(context.heads(&qkv), context.qk_norm(over, &weights))?;
                Some((std::mem::replace(&mut qkv, normed), saved))
            }
        };
        rope::forward(&mut qkv, h + g, context.rotations.of(self.layer.rotation))?;
        let heads = |start, heads| qkv.f_narrow(1, start, heads);
        let (query, key, value) = (heads(0, h)?, heads(h, g)?, heads(h + g, g)?);
        let inputs = context.attention_inputs(self.layer, [&query, &key, &value]);
        let (attended, attention) = attention::forward(context.attention, inputs)?;
        let attended = attended.f_view([-1, h * k])?;
        let branch = context.branch(context.linear(&attended, self.o_proj)?, self.norms.attention_output)?;
        let stream = ResidualStream { x: branch, pending: Some(x.shallow_clone()) };
        let (middle, middle_normed, middle_statistics) = stream.normed(context, self.norms.mlp)?;
        let gate_up = context.fused_linear(&middle_normed, &self.gate_up_proj)?;
        let activations = Activations {
            input_statistics,
            input_normed: Some(input_normed),
            qk_norm,
            query,
            key,
            value,
            attended,
            attention,
            middle,
            middle_statistics,
            middle_normed: Some(middle_normed),
            gate_up,
        };
        Ok((x, activations))
    }

    /// The residual stream after the block.
    pub(crate) fn output(&self, context: &Context<'_>, activations: &Activations) -> Result<ResidualStream, Error> {
        let gated = glu::forward(context.unit(), &activations.gate_up)?;
        let pending = Some(activations.middle.shallow_clone());
        let x = context.branch(context.linear(&gated, self.down_proj)?, self.norms.mlp_output)?;
        Ok(ResidualStream { x, pending })
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
        let normed = |kept: &Option<Tensor>, x: &Tensor, norm: Option<ParameterId>| match (kept, norm) {
            (Some(kept), _) => Ok(kept.shallow_clone()),
            (None, None) => Ok(x.shallow_clone()),
            (None, Some(id)) => norm::forward(x, context.norm(&context.weight(id)?)).map(|(normed, _)| normed),
        };
        // Through the norm of x, plus what reaches x past it.
        let norm_backward = |d_normed: Tensor,
                             (x, statistics): (&Tensor, &Option<norm::Statistics>),
                             norm: Option<ParameterId>,
                             residual: &Tensor| {
            let (Some(id), Some(statistics)) = (norm, statistics) else { return Ok({ d_normed }.f_add_(residual)?) };
            let weight = context.weight(id)?;
            let saved = norm::Saved { x, norm: context.norm(&weight), statistics };
            norm::backward(&d_normed, saved, Some(residual), &mut context.norm_gradients(id))
        };

        // MLP
        let d_output = context.branch_backward(dy, self.norms.mlp_output, || {
            context.linear(&glu::forward(context.unit(), &saved.gate_up)?, self.down_proj)
        })?;
        let down_proj = context.weight(self.down_proj.weight)?;
        let d_gated = ops::linear::input_gradient(&d_output, &down_proj)?;
        let (d_gate_up, gated) = glu::backward(context.unit(), d_gated, &saved.gate_up)?;
        ops::linear::add_weight_gradients(&d_output, &gated, &mut context.linear_gradients(self.down_proj))?;
        drop((down_proj, gated, d_output));
        let middle_normed = normed(&saved.middle_normed, &saved.middle, self.norms.mlp)?;
        let d_normed = context.fused_linear_backward(&d_gate_up, &middle_normed, &self.gate_up_proj)?;
        drop((d_gate_up, middle_normed));
        let d_middle = norm_backward(d_normed, (&saved.middle, &saved.middle_statistics), self.norms.mlp, dy)?;

        // Attention
        let d_output = context
            .branch_backward(&d_middle, self.norms.attention_output, || context.linear(&saved.attended, self.o_proj))?;
        let d_attended = context.linear_backward(&d_output, &saved.attended, self.o_proj)?;
        drop(d_output);
        let d_attended = d_attended.f_view_as(&saved.query)?;
        let inputs = context.attention_inputs(self.layer, [&saved.query, &saved.key, &saved.value]);
        let gradients = attention::backward(&d_attended, inputs, &saved.attention)?;
        let rotated = [&gradients.query, &gradients.key, &gradients.value];
        let mut d_qkv = rope::backward(rotated, context.rotations.of(self.layer.rotation))?;
        drop(gradients);
        if let (Some((over, ids)), Some((qkv, saved))) = (self.qk_norm, &saved.qk_norm) {
            let weights = context.weights(ids)?;
            let of_weights = ids.map(|id| context.parameters.gradient(id));
            let norm = context.qk_norm(over, &weights);
            d_qkv = qk_norm::backward(d_qkv, (context.heads(qkv), norm), saved, of_weights)?;
        }
        let d_qkv = d_qkv.f_flatten(1, 2)?;
        let input_normed = normed(&saved.input_normed, x, self.norms.input)?;
        let d_normed = context.fused_linear_backward(&d_qkv, &input_normed, &self.qkv_proj)?;
        norm_backward(d_normed, (x, &saved.input_statistics), self.norms.input, &d_middle)
    }
}
