//! The decoder as a whole: embedding, blocks, final norm, head.

use crate::block::{Activations, Block, Context, Stream};
use crate::graphs::{CudaGraphs, Graphs};
use crate::layout::{self, EMBEDDING, HEAD, NORM};
use crate::ops::attention::{self, AttentionKind, cudnn};
use crate::ops::{cross_entropy, embedding, rms_norm, rope};
use crate::parameters::{ParameterId, Parameters};
use crate::recompute::{Kept, Recompute};
use crate::repeats::Repeats;
use crate::save::{MAX_SHARD_BYTES, Moment};
use crate::{Config, Error, ModelFile, Rows, TokenBatch};
use std::path::Path;
use tch::{Device, Kind, Tensor};
use torch_ext::{HostMemory, catch_scalar_panic};

/// How a model is held and run.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// Where weights live.
    pub device: Device,
    /// Type that weights are held and saved in: `Float`, `BFloat16`, `Half`; `Double` for tests.
    /// `None`: the file's own.
    pub dtype: Option<Kind>,
    /// Type of activations and gradients. `None`: the weights' own, but float32 for 16-bit weights
    /// on the CPU, where 16-bit arithmetic is tens of times slower.
    pub compute_dtype: Option<Kind>,
    /// How attention is computed.
    pub attention: AttentionKind,
    /// What the backward keeps.
    pub recompute: Recompute,
    /// Whether a pass is recorded and launched as a whole.
    pub cuda_graphs: CudaGraphs,
    /// Logits that exist at one time: the head runs on as many tokens as keep `tokens · v` below
    /// this. `None`: 16 Mi on the CPU, 128 Mi on a GPU, which is 64 MiB and 512 MiB of float32.
    pub logits_chunk_elements: Option<i64>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            dtype: None,
            compute_dtype: None,
            attention: AttentionKind::default(),
            recompute: Recompute::default(),
            cuda_graphs: CudaGraphs::default(),
            logits_chunk_elements: None,
        }
    }
}

/// A decoder-only language model.
#[derive(Debug)]
pub struct CausalLm {
    config: Config,
    options: ModelOptions,
    parameters: Parameters,
    compute: Kind,
    embedding: ParameterId,
    blocks: Vec<Block>,
    norm: ParameterId,
    head: ParameterId,
    /// Unless they follow the length of a batch's rows.
    inverse_frequencies: Option<Tensor>,
    graphs: Graphs,
    repeats: Repeats,
    /// generation_config.json of the folder the model came from.
    pub(crate) generation_config: Option<serde_json::Value>,
}

/// Sums of a loss over the targets of a batch, still on the device.
pub type LossSums = cross_entropy::Sums;

impl CausalLm {
    /// A model with all weights zero. `options.dtype` of `None` means float32.
    ///
    /// # Errors
    /// [`Error::Torch`] when memory is lacking.
    pub fn zeros(config: Config, options: ModelOptions) -> Result<Self, Error> {
        let storage = options.dtype.unwrap_or(Kind::Float);
        let sixteen_bits = matches!(storage, Kind::BFloat16 | Kind::Half);
        let default_compute = if options.device == Device::Cpu && sixteen_bits { Kind::Float } else { storage };
        let compute = options.compute_dtype.unwrap_or(default_compute);
        // Gradients of wide weights are summed up wide, whatever they are computed in.
        let gradients = if storage == Kind::Float { Kind::Float } else { compute };
        let mut parameters = Parameters::zeros(layout::specs(&config), storage, gradients, options.device)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|layer| layout::block(&config, &mut parameters, layer))
            .collect::<Result<Vec<_>, Error>>()?;
        let find = |name: &str| layout::find(&parameters, name);
        let embedding = find(EMBEDDING)?;
        let head = if config.tie_word_embeddings { embedding } else { find(HEAD)? };
        let norm = find(NORM)?;
        let inverse_frequencies = match config.rope.follows_length() {
            true => None,
            false => Some(catch_scalar_panic(|| config.rope.inverse_frequencies(config.head_dim, 1, options.device))?),
        };
        let (graphs, generation_config) = (Graphs::default(), None);
        Ok(Self {
            config,
            options,
            compute,
            embedding,
            blocks,
            norm,
            head,
            parameters,
            inverse_frequencies,
            graphs,
            repeats: Repeats::default(),
            generation_config,
        })
    }

    /// The configuration the model was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the model is held and run.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// The type of activations and gradients.
    pub fn compute_dtype(&self) -> Kind {
        self.compute
    }

    /// Weights and, once a backward has run, gradients.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// For clearing gradients and handing them to an optimizer.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Writes config, weights and generation config to `dir`, which must exist. See [`crate::save`]
    /// for the layout.
    ///
    /// # Errors
    /// [`Error::Write`] names the file; [`Error::Torch`] when weights cannot be copied to the host.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        crate::save::save(self, dir)
    }

    /// The files that [`save`](Self::save) writes, in its order. They share the weights' memory:
    /// they are to be written before the weights change.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn files(&self) -> Result<Vec<ModelFile>, Error> {
        crate::save::files(self, Moment::Writing, MAX_SHARD_BYTES)
    }

    /// The same with a copy of the weights in `memory`, to be written while training goes on. A
    /// file that is dropped gives its part back.
    ///
    /// # Errors
    /// [`Error::TorchExt`] when memory is lacking.
    pub fn snapshot(&self, memory: &HostMemory) -> Result<Vec<ModelFile>, Error> {
        crate::save::files(self, Moment::Now(memory), MAX_SHARD_BYTES)
    }

    /// Loss of a batch without gradients.
    ///
    /// # Errors
    /// [`Error::Shape`] for token ids past the vocabulary, [`Error::Torch`] from libtorch, out of
    /// memory for one.
    pub fn loss(&self, batch: &TokenBatch) -> Result<LossSums, Error> {
        catch_scalar_panic(|| {
            let hidden = self.hidden(batch)?.f_index_select(0, &batch.target_positions)?;
            let head = self.parameters.weight_as(self.head, self.compute)?;
            cross_entropy::forward(&self.normed(&hidden)?.0, &head, &batch.targets, self.chunk_tokens())
        })
    }

    /// Changes what the backward computes again.
    pub fn set_recompute(&mut self, recompute: Recompute) {
        self.options.recompute = recompute;
        self.graphs = Graphs::default();
    }

    /// Why passes are done operation by operation although they should be recorded, once that has
    /// failed.
    pub fn cuda_graphs_failure(&self) -> Option<&Error> {
        self.graphs.failure()
    }

    #[cfg(test)]
    pub(crate) fn num_cuda_graphs(&self) -> usize {
        self.graphs.num_recorded()
    }

    /// Changes whether a pass is recorded.
    pub fn set_cuda_graphs(&mut self, cuda_graphs: CudaGraphs) {
        self.options.cuda_graphs = cuda_graphs;
        self.graphs = Graphs::default();
    }

    /// How many blocks of a batch of so many tokens are kept as they are or without norms; of the
    /// others the input alone is.
    pub fn kept_blocks(&self, num_tokens: i64) -> usize {
        self.kept(num_tokens).iter().filter(|kept| **kept != Kept::Input).count()
    }

    /// Bytes that the backward of a batch of so many tokens keeps inside the blocks.
    pub fn kept_bytes(&self, num_tokens: i64) -> u64 {
        let [rest, norms] = Activations::bytes_per_token(&self.config, self.compute);
        let of_one = |kept: &Kept| match kept {
            Kept::All => rest + norms,
            Kept::WithoutNorms => rest,
            Kept::Input => 0,
        };
        u64::try_from(num_tokens).unwrap_or(0) * self.kept(num_tokens).iter().map(of_one).sum::<u64>()
    }

    fn kept(&self, num_tokens: i64) -> Vec<Kept> {
        let [rest, norms] = Activations::bytes_per_token(&self.config, self.compute);
        let tokens = u64::try_from(num_tokens).unwrap_or(0);
        self.options.recompute.plan(self.blocks.len(), tokens * rest, tokens * norms)
    }

    /// Logits of every token, `[n, v]` in the compute type. For short inputs: nothing is done in
    /// chunks.
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

    /// Adds the gradients of `scale` · (sum of the batch's losses) to the parameters' gradients;
    /// returns the sums, unscaled.
    ///
    /// # Errors
    /// As [`Self::loss`]. After an error the gradients are undefined.
    pub fn forward_backward(&mut self, batch: &TokenBatch, scale: f64) -> Result<LossSums, Error> {
        self.parameters.gradients()?;
        batch.check_vocabulary(self.config.vocab_size)?;
        let options = (Kind::Double, self.options.device);
        let scale = catch_scalar_panic(|| Tensor::f_full([0i64; 0], scale, options))?;
        let attention = self.attention_for(&batch.rows);
        match self.options.device {
            Device::Cuda(index) if self.options.cuda_graphs == CudaGraphs::On && self.is_recordable() => {
                let mut graphs = std::mem::take(&mut self.graphs);
                let rows = if attention == AttentionKind::Flash { batch.rows.of_one_length() } else { None };
                let sums = graphs.run(index, (batch, rows), &scale, |batch, scale| self.pass(batch, scale, attention));
                self.graphs = graphs;
                sums
            }
            _ => self.pass(batch, &scale, attention),
        }
    }

    /// How attention is computed for rows of a training batch: cuDNN's kernel where they have come
    /// before.
    fn attention_for(&mut self, rows: &Rows) -> AttentionKind {
        let (config, options) = (&self.config, &self.options);
        let heads = [config.num_attention_heads, config.num_key_value_heads];
        let takes = |length| cudnn::takes(options.device, self.compute, config.head_dim, heads, length);
        match (options.attention, rows.of_one_length()) {
            (AttentionKind::Flash, Some(rows)) if takes(rows.length) && self.repeats.pays(rows) => AttentionKind::Flash,
            (kind, _) => kind.without_cudnn(),
        }
    }

    /// Whether the operations of a pass follow from the batch's shape alone.
    pub fn is_recordable(&self) -> bool {
        let (options, head_dim) = (&self.options, self.config.head_dim);
        self.inverse_frequencies.is_some()
            && attention::reads_rows_on_device(options.attention, options.device, self.compute, head_dim)
    }

    /// What [`Self::forward_backward`] asks of the device; `scale` is a float64 scalar there. The
    /// host learns nothing from the device.
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

        // Forward, keeping each block's input and, unless it is to be computed again, its inside.
        let mut stream = Stream { x: self.embed(batch)?, residual: None };
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
        let (normed, reciprocal_rms) = self.normed(&selected)?;
        let head = self.parameters.weight_as(self.head, self.compute)?;
        let mut head_gradient = self.parameters.gradient(self.head);
        let (sums, d_normed) = cross_entropy::forward_backward(
            &normed,
            &head,
            &batch.targets,
            scale,
            &mut head_gradient,
            self.chunk_tokens(),
        )?;
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
                None => block.activations(&context, Stream { x: input, residual: None })?,
            };
            d_hidden = block.backward(&context, &d_hidden, &input, &activations)?;
        }
        let by_id = batch.tokens_by_id.as_ref();
        embedding::backward(&d_hidden, &batch.input_ids, by_id, &mut self.parameters.gradient(self.embedding))?;
        Ok(sums)
    }

    fn embed(&self, batch: &TokenBatch) -> Result<Tensor, Error> {
        // The rows are looked up before they are converted: the table itself can be large.
        let table = &self.parameters.weights()[self.embedding.index()];
        embedding::forward(table, &batch.input_ids, self.compute)
    }

    /// The last block's output, `[n, d]`.
    fn hidden(&self, batch: &TokenBatch) -> Result<Tensor, Error> {
        batch.check_vocabulary(self.config.vocab_size)?;
        let rotations = self.rotations(batch)?;
        let context = self.context(batch, &rotations);
        let mut stream = Stream { x: self.embed(batch)?, residual: None };
        for block in &self.blocks {
            let (_, activations) = block.activations(&context, stream)?;
            stream = block.output(&context, &activations)?;
        }
        stream.sum()
    }

    fn normed(&self, hidden: &Tensor) -> Result<(Tensor, Tensor), Error> {
        rms_norm::forward(hidden, &self.parameters.weight_as(self.norm, self.compute)?, self.config.rms_norm_eps)
    }

    fn head_logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let head = self.parameters.weight_as(self.head, self.compute)?;
        Ok(self.normed(hidden)?.0.f_linear(&head, None::<&Tensor>)?)
    }

    fn chunk_tokens(&self) -> i64 {
        // Long enough a matrix product to run at full speed, short enough to be small beside the
        // weights.
        let default = if self.options.device.is_cuda() { 1 << 27 } else { 1 << 24 };
        (self.options.logits_chunk_elements.unwrap_or(default) / self.config.vocab_size).max(1)
    }

    fn rotations(&self, batch: &TokenBatch) -> Result<rope::Rotations, Error> {
        let (config, longest) = (&self.config, batch.rows.longest());
        let inverse_frequencies = match &self.inverse_frequencies {
            Some(known) => known.shallow_clone(),
            None => config.rope.inverse_frequencies(config.head_dim, longest, self.options.device)?,
        };
        rope::Rotations::new(&batch.rows.positions, &inverse_frequencies, self.compute)
    }

    fn context<'a>(&'a self, batch: &'a TokenBatch, rotations: &'a rope::Rotations) -> Context<'a> {
        Context {
            config: &self.config,
            parameters: &self.parameters,
            rotations,
            rows: &batch.rows,
            // Batches without a backward come in many shapes.
            attention: self.options.attention.without_cudnn(),
            compute: self.compute,
        }
    }
}
