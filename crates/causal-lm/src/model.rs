//! The decoder as a whole: embedding, blocks, final norm, head.

mod options;
mod pass;

pub use options::ModelOptions;

use crate::block::Block;
use crate::graphs::RecordedPasses;
use crate::layout::{self, EMBEDDING, HEAD, NORM};
use crate::ops::cross_entropy;
use crate::parameters::{ParameterId, Parameters};
use crate::plan_policy::PlanPolicy;
use crate::save::{MAX_SHARD_BYTES, WeightsSource};
use crate::{Config, Error, ModelFile, RopeParameters};
use std::path::Path;
use tch::{Device, Kind, Tensor};
use torch_ext::{HostBufferPool, catch_scalar_panic};

/// A decoder-only language model.
#[derive(Debug)]
pub struct CausalLm {
    pub(crate) config: Config,
    pub(crate) options: ModelOptions,
    parameters: Parameters,
    /// The type of activations and gradients.
    pub(crate) compute: Kind,
    embedding: ParameterId,
    pub(crate) blocks: Vec<Block>,
    norm: ParameterId,
    head: ParameterId,
    /// Of `config.rope` and `config.local_rope`. `None` if they depend on the length of a batch's
    /// rows.
    inverse_frequencies: Option<Vec<Tensor>>,
    pub(crate) recorded_passes: RecordedPasses,
    plan_policy: PlanPolicy,
    /// generation_config.json of the folder that the model came from.
    pub(crate) generation_config: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Sums of the loss and of correct predictions over the targets of a batch, still on the device.
pub type LossSums = cross_entropy::Sums;

impl CausalLm {
    /// A model with all weights zero. `options.dtype` of `None` means float32.
    ///
    /// # Errors
    /// [`Error::Torch`] when memory is short.
    pub fn zeros(config: Config, options: ModelOptions) -> Result<Self, Error> {
        let storage = options.dtype.unwrap_or(Kind::Float);
        let has_16_bits = matches!(storage, Kind::BFloat16 | Kind::Half);
        let default_compute = if options.device == Device::Cpu && has_16_bits { Kind::Float } else { storage };
        let compute = options.compute_dtype.unwrap_or(default_compute);
        // Gradients of float32 weights are summed in float32, whatever type they are computed in.
        let gradients = if storage == Kind::Float { Kind::Float } else { compute };
        let mut parameters = Parameters::zeros(layout::specs(&config), storage, gradients, options.device)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|layer| layout::block(&config, &mut parameters, layer))
            .collect::<Result<Vec<_>, Error>>()?;
        let find = |name: &str| layout::find(&parameters, name);
        let embedding = find(EMBEDDING)?;
        let head = if config.tie_word_embeddings { embedding } else { find(HEAD)? };
        let norm = find(NORM)?;
        let ropes = || [Some(&config.rope), config.local_rope.as_ref()].into_iter().flatten();
        let inverse_frequencies = match ropes().any(RopeParameters::depends_on_length) {
            true => None,
            false => Some(catch_scalar_panic(|| {
                ropes().map(|rope| rope.inverse_frequencies(config.head_dim, 1, options.device)).collect()
            })?),
        };
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
            recorded_passes: RecordedPasses::default(),
            plan_policy: PlanPolicy::default(),
            generation_config: None,
        })
    }

    /// The configuration that the model was made from.
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

    /// The files that [`save`](Self::save) writes, in the order to write them. They share the
    /// weights' memory, so write them before the weights change.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn files(&self) -> Result<Vec<ModelFile>, Error> {
        crate::save::files(self, WeightsSource::Shared, MAX_SHARD_BYTES)
    }

    /// As [`files`](Self::files), but with a copy of the weights in `memory`, so that training can
    /// go on before they are written. Dropping a file gives its memory back.
    ///
    /// # Errors
    /// [`Error::TorchExt`] when memory is short.
    pub fn snapshot(&self, memory: &HostBufferPool) -> Result<Vec<ModelFile>, Error> {
        crate::save::files(self, WeightsSource::CopiedTo(memory), MAX_SHARD_BYTES)
    }
}
