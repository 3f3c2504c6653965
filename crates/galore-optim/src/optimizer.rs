//! The two optimizers and what they have in common.

use crate::accelerated::catch_scalar_panic;
use crate::adam::AdamFormula;
use crate::engine::Engine;
use crate::state::StateFile;
use crate::{Error, GradientCheck, ParameterGroup, WeightUpdate, state};
use std::path::Path;
use std::time::Duration;
use tch::Tensor;

/// An optimizer over named parameters.
pub trait Optimizer {
    /// Updates every parameter that has a gradient. Gradients do not change.
    ///
    /// A gradient that is not finite is an error before anything changes ([`GradientCheck`] has the
    /// exceptions). After another error, the parameters before the one named are updated and the
    /// others are not. Stop then, or load a saved state.
    ///
    /// # Errors
    /// [`Error::LearningRate`] for a learning rate that is negative or not finite;
    /// [`Error::GradientShape`] and [`Error::UnsupportedKind`] for a gradient that does not fit;
    /// [`Error::NonFiniteGradient`] for one with NaN or infinity; [`Error::Parameter`] for a failed
    /// tensor operation.
    fn step(&mut self, learning_rate: f64) -> Result<(), Error>;

    /// The state as named tensors that share its memory: `<parameter>.exp_avg` and `.exp_avg_sq`
    /// (float32 or bfloat16), `.step` (int64), and where they are used `.basis_left` and
    /// `.basis_right` (float32 or float16), `.hidden_bits` (int16), `.master` (float32). Those of a
    /// target `[experts, rows, cols]` have the experts as their first dimension, and are copies.
    ///
    /// # Errors
    /// [`Error::Torch`] if a tensor operation fails.
    fn state(&self) -> Result<Vec<(String, Tensor)>, Error>;

    /// The state as the content of a safetensors file. Its tensors share memory with the optimizer:
    /// write or copy them before the next step. Weights are not part of the state.
    ///
    /// # Errors
    /// [`Error::Torch`] if a tensor operation fails; [`Error::Parameter`] if the matrices of one
    /// target are at different steps, after a step that failed.
    fn state_file(&self) -> Result<StateFile, Error>;

    /// Writes the state to a safetensors file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written, [`Error::Torch`] if a tensor cannot be read.
    fn save(&self, path: &Path) -> Result<(), Error>;

    /// The size of a state file in bytes, without its header, once every parameter has taken a
    /// step.
    fn state_bytes(&self) -> u64;

    /// Reads a state that [`Optimizer::save`] wrote. With the weights of the same moment, training
    /// continues bit for bit as if it had not stopped. Nothing changes if the file does not fit or
    /// cannot be read to its end.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::StateFile`] if it is truncated or not a
    /// state of this optimizer; [`Error::StateMismatch`] lists tensors that are missing, extra, or
    /// of another shape or type; [`Error::StateSettings`] lists settings that are not those the
    /// state was made with (weight decay may change, and files of version 1 do not say);
    /// [`Error::Torch`] if a tensor operation fails.
    fn load(&mut self, path: &Path) -> Result<(), Error>;

    /// Number of steps taken, including those before a resume.
    fn num_steps(&self) -> u64;

    /// Sets how much memory refreshes on a GPU may take while they run: 600 MB by default. They
    /// take more where more was in use before and is free now. The more matrices are decomposed at
    /// a time, the less time each takes: at order 1024 on an H100, 5.8 ms with 12 matrices and
    /// 2.1 ms with 48.
    fn allow_refresh_memory(&mut self, _bytes: u64) {}

    /// Sets when a step looks whether its gradients are finite. Default: [`GradientCheck::Auto`].
    fn check_gradients(&mut self, _when: GradientCheck) {}

    /// Time spent in refreshes since this value was made.
    fn subspace_refresh_time(&self) -> Duration {
        Duration::ZERO
    }
}

/// AdamW on gradients projected into low-rank subspaces. With
/// [`SubspaceSolver::Svd`](crate::SubspaceSolver::Svd) it equals galore-torch 1.0 step for step.
///
/// Groups with [`ParameterGroup::galore`] are targets, each with its own settings. The other groups
/// take the same formula without projection, as in galore-torch.
#[derive(Debug)]
pub struct GaLoreAdamW(Engine);

impl GaLoreAdamW {
    /// An optimizer whose moments are zero.
    ///
    /// # Errors
    /// [`Error::Config`] for settings out of range; [`Error::TargetNotMatrix`] for a target that is
    /// neither a matrix nor a stack of matrices; [`Error::UndefinedWeight`],
    /// [`Error::NotContiguous`], [`Error::UnsupportedKind`] and [`Error::DuplicateName`] for
    /// parameters that cannot be used; [`Error::Torch`] if memory is lacking.
    pub fn new(groups: Vec<ParameterGroup>, weight_update: WeightUpdate) -> Result<Self, Error> {
        catch_scalar_panic(|| Engine::new(AdamFormula::GaLore, groups, weight_update)).map(GaLoreAdamW)
    }
}

/// AdamW as `torch.optim.AdamW` computes it ([1711.05101](https://arxiv.org/abs/1711.05101)).
#[derive(Debug)]
pub struct AdamW(Engine);

impl AdamW {
    /// An optimizer whose moments are zero.
    ///
    /// # Errors
    /// [`Error::Config`] for settings out of range and for a group with GaLore settings;
    /// [`Error::UndefinedWeight`], [`Error::NotContiguous`], [`Error::UnsupportedKind`] and
    /// [`Error::DuplicateName`] for parameters that cannot be used; [`Error::Torch`] if memory is
    /// lacking.
    pub fn new(groups: Vec<ParameterGroup>, weight_update: WeightUpdate) -> Result<Self, Error> {
        let projected = groups.iter().enumerate().filter(|(_, group)| group.galore.is_some());
        let problem = |index| format!("galore of group {index}: must be None, or the optimizer a GaLoreAdamW");
        let problems: Vec<String> = projected.map(|(index, _)| problem(index)).collect();
        if !problems.is_empty() {
            return Err(Error::Config { problems });
        }
        catch_scalar_panic(|| Engine::new(AdamFormula::Torch, groups, weight_update)).map(AdamW)
    }
}

/// Both optimizers are an [`Engine`]. They differ in how it is made.
macro_rules! optimize_by_engine {
    ($($optimizer:ty),+) => {
        $(
            impl Optimizer for $optimizer {
                fn step(&mut self, learning_rate: f64) -> Result<(), Error> {
                    catch_scalar_panic(|| self.0.step(learning_rate))
                }

                fn state(&self) -> Result<Vec<(String, Tensor)>, Error> {
                    state::tensors(&self.0)
                }

                fn state_file(&self) -> Result<StateFile, Error> {
                    StateFile::new(&self.0)
                }

                fn save(&self, path: &Path) -> Result<(), Error> {
                    state::save(&self.0, path)
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

                fn check_gradients(&mut self, when: GradientCheck) {
                    self.0.gradient_check = when;
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

optimize_by_engine!(GaLoreAdamW, AdamW);
