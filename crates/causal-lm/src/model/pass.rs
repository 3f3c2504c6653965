//! Forward and backward of the whole decoder.
//!
//! Shapes: `n` tokens of all rows, `d` hidden, `v` vocabulary, `m` tokens with a target.

use super::{CausalLm, LossSums};
use crate::block::{Activations, Context, ResidualStream};
use crate::ops::attention::{self, AttentionKind, cudnn};
use crate::ops::{cross_entropy, embedding, rms_norm, rope};
use crate::recompute::Kept;
use crate::{CudaGraphs, Error, RowLayout, TokenBatch};
use tch::{Device, Kind, Tensor};
use torch_ext::catch_scalar_panic;

impl CausalLm {
    /// Sums of the loss and of correct predictions over a batch's targets, without gradients.
    ///
    /// # Errors
    /// [`Error::Shape`] for token ids past the vocabulary; [`Error::RowTooLong`] for a row beyond
    /// the sliding window; [`Error::Torch`] from libtorch, for example when memory is short.
    pub fn loss(&self, batch: &TokenBatch) -> Result<LossSums, Error> {
        catch_scalar_panic(|| {
            let hidden = self.hidden(batch)?.f_index_select(0, &batch.target_positions)?; // [m, d]
            let head = self.parameters.weight_as(self.head, self.compute)?;
            let (normed, _) = self.final_norm(&hidden)?;
            cross_entropy::forward(self.loss_inputs(&normed, &head, batch))
        })
    }

    /// Logits of every token, `[n, v]` in the compute type. They are computed all at once, so this
    /// is for short inputs.
    ///
    /// # Errors
    /// As [`Self::loss`].
    pub fn logits(&self, batch: &TokenBatch) -> Result<Tensor, Error> {
        catch_scalar_panic(|| self.head_logits(&self.hidden(batch)?))
    }

    /// Logits after the last token of a batch of one row, `[v]` in the compute type.
    pub(crate) fn last_logits(&self, batch: &TokenBatch) -> Result<Tensor, Error> {
        catch_scalar_panic(|| {
            let last = self.hidden(batch)?.f_narrow(0, batch.rows.num_tokens() - 1, 1)?;
            Ok(self.head_logits(&last)?.f_squeeze_dim(0)?)
        })
    }

    /// Adds the gradients of `scale` · (sum of the batch's losses) to the parameters' gradients.
    /// Returns the sums, not scaled.
    ///
    /// # Errors
    /// As [`Self::loss`]. After an error the gradients are undefined.
    pub fn forward_backward(&mut self, batch: &TokenBatch, scale: f64) -> Result<LossSums, Error> {
        let _span = tracing::debug_span!("forward_backward", num_tokens = batch.rows.num_tokens()).entered();
        self.parameters.gradients()?;
        batch.check_fits(&self.config)?;
        let options = (Kind::Double, self.options.device);
        let scale = catch_scalar_panic(|| Tensor::f_full([0i64; 0], scale, options))?;
        let attention = self.attention_for(&batch.rows);
        match self.options.device {
            Device::Cuda(index) if self.options.cuda_graphs == CudaGraphs::On && self.is_recordable() => {
                let mut recorded_passes = std::mem::take(&mut self.recorded_passes);
                let rows = if attention == AttentionKind::Flash { batch.rows.as_one_group() } else { None };
                let pass = |batch: &TokenBatch, scale: &Tensor| self.pass(batch, scale, attention);
                let sums = recorded_passes.run(index, (batch, rows), &scale, pass);
                self.recorded_passes = recorded_passes;
                sums
            }
            _ => self.pass(batch, &scale, attention),
        }
    }

    /// How attention is computed for a training batch: cuDNN's kernel is used where rows of the
    /// same length have been seen often enough.
    fn attention_for(&mut self, rows: &RowLayout) -> AttentionKind {
        let (config, options) = (&self.config, &self.options);
        let heads = [config.num_attention_heads, config.num_key_value_heads];
        let takes = |length| cudnn::takes(options.device, self.compute, config.head_dim, heads, length);
        match (options.attention, rows.as_one_group()) {
            (AttentionKind::Flash, Some(rows)) if takes(rows.length) && self.plan_policy.pays_after_counting(rows) => {
                AttentionKind::Flash
            }
            (kind, _) => kind.without_cudnn(),
        }
    }

    /// Whether the operations of a pass depend on nothing but the batch's shape, so that
    /// [`CudaGraphs::On`] has an effect.
    pub fn is_recordable(&self) -> bool {
        let (options, head_dim) = (&self.options, self.config.head_dim);
        self.inverse_frequencies.is_some()
            && attention::reads_rows_on_device(
                options.attention,
                attention::Scores::scaled(1.0),
                (options.device, self.compute, head_dim),
            )
    }

    /// The operations of [`Self::forward_backward`]. `scale` is a float64 scalar on the device.
    /// Nothing is read back to the host, so a pass can be recorded.
    fn pass(&self, batch: &TokenBatch, scale: &Tensor, attention: AttentionKind) -> Result<LossSums, Error> {
        catch_scalar_panic(|| self.forward_then_backward(batch, scale, attention))
    }

    fn forward_then_backward(
        &self,
        batch: &TokenBatch,
        scale: &Tensor,
        attention: AttentionKind,
    ) -> Result<LossSums, Error> {
        let rotations = self.rotations(batch)?;
        let context = Context { attention, ..self.context(batch, &rotations) };

        // Forward. Each block's input is kept, and its activations unless they are to be computed
        // again.
        let mut stream = ResidualStream { x: self.embed(batch)?, pending: None };
        let mut kept: Vec<(Tensor, Option<Activations>)> = Vec::with_capacity(self.blocks.len());
        for (block, keep) in self.blocks.iter().zip(self.kept(batch.rows.num_tokens())) {
            let (input, activations) = block.activations(&context, stream)?;
            stream = block.output(&context, &activations)?;
            let activations = match keep {
                Kept::All => Some(activations),
                Kept::WithoutNorms => Some(activations.without_norms()),
                Kept::Input => None,
            };
            kept.push((input, activations));
        }
        let hidden = stream.sum()?; // [n, d]

        // Head and loss, for the tokens that have a target.
        let selected = hidden.f_index_select(0, &batch.target_positions)?; // [m, d]
        let (normed, reciprocal_rms) = self.final_norm(&selected)?;
        let head = self.parameters.weight_as(self.head, self.compute)?;
        let mut head_gradient = self.parameters.gradient(self.head);
        let (sums, d_normed) =
            cross_entropy::forward_backward(self.loss_inputs(&normed, &head, batch), scale, &mut head_gradient)?;
        drop((normed, head));
        let weight = &self.parameters.weight_as(self.norm, self.compute)?;
        let saved = rms_norm::Saved { x: &selected, weight, reciprocal_rms: &reciprocal_rms };
        let d_selected = rms_norm::backward(&d_normed, saved, None, &mut self.parameters.gradient(self.norm))?;
        let mut d_hidden = hidden.f_zeros_like()?.f_index_copy_(0, &batch.target_positions, &d_selected)?;
        drop((hidden, selected, d_selected, d_normed));

        // Backward through the blocks.
        for (block, (input, activations)) in self.blocks.iter().zip(kept).rev() {
            let (input, activations) = match activations {
                Some(activations) => (input, activations),
                None => block.activations(&context, ResidualStream { x: input, pending: None })?,
            };
            d_hidden = block.backward(&context, &d_hidden, &input, &activations)?;
        }
        let by_id = batch.tokens_by_id.as_ref();
        embedding::backward(&d_hidden, &batch.input_ids, by_id, &mut self.parameters.gradient(self.embedding))?;
        Ok(sums)
    }

    fn embed(&self, batch: &TokenBatch) -> Result<Tensor, Error> {
        // Only the rows that are looked up are converted: the whole table can be large.
        let table = &self.parameters.weights()[self.embedding.index()];
        embedding::forward(table, &batch.input_ids, self.compute)
    }

    /// The last block's output, `[n, d]`.
    fn hidden(&self, batch: &TokenBatch) -> Result<Tensor, Error> {
        batch.check_fits(&self.config)?;
        let rotations = self.rotations(batch)?;
        let context = self.context(batch, &rotations);
        let mut stream = ResidualStream { x: self.embed(batch)?, pending: None };
        for block in &self.blocks {
            let (_, activations) = block.activations(&context, stream)?;
            stream = block.output(&context, &activations)?;
        }
        stream.sum()
    }

    fn final_norm(&self, hidden: &Tensor) -> Result<(Tensor, Tensor), Error> {
        rms_norm::forward(hidden, &self.parameters.weight_as(self.norm, self.compute)?, self.config.rms_norm_eps)
    }

    fn head_logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let head = self.parameters.weight_as(self.head, self.compute)?;
        Ok(self.final_norm(hidden)?.0.f_linear(&head, None::<&Tensor>)?)
    }

    fn loss_inputs<'a>(&self, x: &'a Tensor, head: &'a Tensor, batch: &'a TokenBatch) -> cross_entropy::Inputs<'a> {
        cross_entropy::Inputs { x, weight: head, targets: &batch.targets, chunk_tokens: self.chunk_tokens(batch) }
    }

    /// Every chunk reads and writes the gradient of the head once more, and each is a matrix
    /// product, which should be large.
    fn chunk_tokens(&self, batch: &TokenBatch) -> i64 {
        let memory_is_scarce = || self.kept(batch.rows.num_tokens()).contains(&Kept::Input);
        let default = match self.options.device.is_cuda() {
            false => 16 << 20,
            true if memory_is_scarce() => 160 << 20,
            true => 320 << 20,
        };
        (self.options.logits_chunk_elements.unwrap_or(default) / self.config.vocab_size).max(1)
    }

    fn rotations(&self, batch: &TokenBatch) -> Result<rope::Rotations, Error> {
        let (config, longest) = (&self.config, batch.rows.longest());
        let inverse_frequencies = match &self.inverse_frequencies {
            Some(known) => known.shallow_clone(),
            None => config.rope.inverse_frequencies(config.head_dim, longest, self.options.device)?,
        };
        let angles = rope::Angles {
            positions: &batch.rows.positions,
            inverse_frequencies: &inverse_frequencies,
            factor: config.rope.attention_factor(),
        };
        rope::Rotations::new(angles, self.compute)
    }

    fn context<'a>(&'a self, batch: &'a TokenBatch, rotations: &'a rope::Rotations) -> Context<'a> {
        Context {
            config: &self.config,
            parameters: &self.parameters,
            rotations,
            rows: &batch.rows,
            // cuDNN's plans do not pay here: batches without a backward come in many shapes.
            attention: self.options.attention.without_cudnn(),
            compute: self.compute,
        }
    }
}
