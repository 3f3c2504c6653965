//! The two optimizers and what they have in common.

use crate::adam::Flavour;
use crate::core::Core;
use crate::state::StateSnapshot;
use crate::{Error, GaLoreConfig, ParameterGroup, WeightUpdate, state};
use std::path::Path;
use std::time::Duration;
use tch::Tensor;
use torch_ext::{HostMemory, catch_scalar_panic};

/// An optimizer over named parameters.
///
/// After an error of [`Optimizer::step`] the parameters before the one named have been updated and
/// the others not: stop, or go back to a saved state.
pub trait Optimizer {
    /// Updates every parameter that has a gradient. Gradients are left as they are.
    ///
    /// # Errors
    /// [`Error::LearningRate`]; [`Error::GradientShape`], [`Error::UnsupportedKind`] for a gradient
    /// that does not fit; [`Error::NonFiniteGradient`], [`Error::Parameter`] for a failed
    /// operation.
    fn step(&mut self, learning_rate: f64) -> Result<(), Error>;

    /// The state as named tensors that share its memory: `<parameter>.exp_avg` and `.exp_avg_sq`
    /// (float32 or bfloat16), `.step` (int64), and where they are used `.basis_left`,
    /// `.basis_right` (float32 or float16), `.hidden_bits` (int16), `.master` (float32).
    ///
    /// # Errors
    /// [`Error::Torch`] if a tensor operation fails.
    fn state(&self) -> Result<Vec<(String, Tensor)>, Error>;

    /// Writes the state to a safetensors file. Weights are not part of it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Torch`].
    fn save(&self, path: &Path) -> Result<(), Error>;

    /// A copy of the state in `memory`, to be written while further steps are taken. It is as large
    /// as the state; when it is dropped, the next one can have its memory.
    ///
    /// # Errors
    /// [`Error::TorchExt`] when memory is lacking or a tensor cannot be read.
    fn snapshot(&self, memory: &HostMemory) -> Result<StateSnapshot, Error>;

    /// How large a state file gets, in bytes, but for its header.
    fn state_bytes(&self) -> u64;

    /// Reads a state that [`Optimizer::save`] wrote. With the weights of the same moment, training
    /// goes on bit for bit as if it had not stopped. Nothing changes if the file does not fit.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::StateFile`] for a file that is truncated or not one of this
    /// optimizer's; [`Error::StateMismatch`] lists tensors that are missing, extra, or of another
    /// shape or type.
    fn load(&mut self, path: &Path) -> Result<(), Error>;

    /// Number of steps taken, in all runs together.
    fn num_steps(&self) -> u64;

    /// Lets decompositions on a GPU take so many bytes while they run, 600 MB unless said; more
    /// where more was in use before and is free now. The more matrices are decomposed at a time,
    /// the less each takes: of order 1024 on an H100, 5.8 ms by 12, 2.1 ms by 48.
    fn allow_refresh_memory(&mut self, _bytes: u64) {}

    /// Time spent in decompositions since this value was made.
    fn subspace_refresh_time(&self) -> Duration {
        Duration::ZERO
    }
}

/// AdamW on gradients projected into low-rank subspaces, with
/// [`SubspaceSolver::Svd`](crate::SubspaceSolver::Svd) equal to galore-torch 1.0 step for step.
///
/// Parameters that are no targets take the same formula unprojected, as in galore-torch.
#[derive(Debug)]
pub struct GaLoreAdamW(Core);

impl GaLoreAdamW {
    /// An optimizer whose moments are zero. `targets` must be 2-D.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::TargetNotMatrix`], [`Error::NotContiguous`],
    /// [`Error::UnsupportedKind`], [`Error::DuplicateName`] for parameters that cannot be taken.
    pub fn new(
        targets: ParameterGroup,
        others: Vec<ParameterGroup>,
        galore: &GaLoreConfig,
        weight_update: WeightUpdate,
    ) -> Result<Self, Error> {
        galore.validate()?;
        let mut core = Core::new(Flavour::GaLore);
        core.add(targets, Some(galore), weight_update)?;
        for group in others {
            core.add(group, None, weight_update)?;
        }
        Ok(GaLoreAdamW(core))
    }
}

/// AdamW as `torch.optim.AdamW` computes it ([1711.05101](https://arxiv.org/abs/1711.05101)).
#[derive(Debug)]
pub struct AdamW(Core);

impl AdamW {
    /// An optimizer whose moments are zero.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::NotContiguous`], [`Error::UnsupportedKind`],
    /// [`Error::DuplicateName`] for parameters that cannot be taken.
    pub fn new(groups: Vec<ParameterGroup>, weight_update: WeightUpdate) -> Result<Self, Error> {
        let mut core = Core::new(Flavour::Torch);
        for group in groups {
            core.add(group, None, weight_update)?;
        }
        Ok(AdamW(core))
    }
}

/// Both optimizers are a [`Core`]; they differ in how it is made.
macro_rules! optimize_by_core {
    ($($optimizer:ty),+) => {
        $(
            impl Optimizer for $optimizer {
                fn step(&mut self, learning_rate: f64) -> Result<(), Error> {
                    catch_scalar_panic(|| self.0.step(learning_rate))
                }

                fn state(&self) -> Result<Vec<(String, Tensor)>, Error> {
                    state::tensors(&self.0)
                }

                fn save(&self, path: &Path) -> Result<(), Error> {
                    state::save(&self.0, path)
                }

                fn snapshot(&self, memory: &HostMemory) -> Result<StateSnapshot, Error> {
                    StateSnapshot::copy(&self.0, memory)
                }

                fn state_bytes(&self) -> u64 {
                    state::full_size_bytes(&self.0)
                }

                fn load(&mut self, path: &Path) -> Result<(), Error> {
                    state::load(&mut self.0, path)
                }

                fn allow_refresh_memory(&mut self, bytes: u64) {
                    self.0.refresh_bytes = bytes;
                }

                fn num_steps(&self) -> u64 {
                    self.0.num_steps
                }

                fn subspace_refresh_time(&self) -> Duration {
                    self.0.refresh_time
                }
            }
        )+
    };
}

optimize_by_core!(GaLoreAdamW, AdamW);
