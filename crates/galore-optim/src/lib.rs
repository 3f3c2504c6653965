//! GaLore AdamW and AdamW for libtorch tensors, equal to galore-torch 1.0 (with its singular
//! vectors, the default on the CPU) and `torch.optim.AdamW` step for step.
//!
//! GaLore ([2403.03507](https://arxiv.org/abs/2403.03507)) keeps Adam's moments in a low-rank
//! subspace of each weight matrix. For a target `W [rows, cols]` with rows ≥ cols
//! ([`ProjectionType`] has the other cases), `G` its gradient and `α` the scale:
//!
//! ```text
//!        every update_proj_gap steps: G = U S Vᵀ, and the r leading columns of V are the basis P
//!                                             │
//!  G [rows, cols] ──── R = G P ────► R [rows, r] ──► moments m, v [rows, r] ──► N = m / (√v + ε)
//!                                                                                       │
//!  W [rows, cols] ◄── W − step size · α · N Pᵀ, then decay, then rounding ◄─────────┘
//! ```
//!
//! - [`select_targets`] selects targets among linear modules as transformers does, and
//!   [`parse_optim_args`] reads its `optim_args`.
//! - [`GaLoreAdamW`] updates targets in their subspaces and all other parameters by plain AdamW of
//!   the same formula. Each [`ParameterGroup`] has its own settings. [`AdamW`] is torch's, which
//!   places ε and the bias corrections differently.
//! - [`GaLoreConfig`] says how many vectors a subspace has ([`Rank`]), how far a step goes
//!   ([`Scale`]), when subspaces are refreshed ([`RefreshTiming`]), how they are found
//!   ([`SubspaceSolver`]) and kept ([`BasisStorage`]), and what a new basis does to the moments
//!   ([`BasisChange`]). Its defaults
//!   are those of Hugging Face, and equal galore-torch.
//! - A target is a matrix `[rows, cols]`, or `[experts, rows, cols]`: each expert then has a
//!   subspace of its own. Where a gradient is zero or cannot be decomposed, the old basis stays.
//! - A gradient with NaN or infinity is an error before anything changes. [`GradientCheck`] says
//!   when a step looks for it.
//! - Both are an [`Optimizer`]. It takes steps, and saves and loads the exact state as safetensors.
//! - [`global_gradient_norm`] and [`clip_gradients`] can be called before the step.
//!
//! Weights are updated in place and may be views into a larger buffer. They are float32, or
//! bfloat16 with a [`WeightUpdate`]. At small learning rates most updates are less than half of a
//! bfloat16's last place, and rounding to nearest loses them. [`WeightUpdate::Exact`] keeps the
//! other 16 bits of a float32 beside each weight. Moments and bases are float32 or 16 bits wide, by
//! [`MomentDtype`].
//!
//! A step with moments of float32 or bfloat16 allocates nothing large. It does not wait for the
//! device, except for refreshes.
//!
//! # The feature `fused-kernels`
//!
//! Without it, the crate needs only tch and runs plain tensor operations on CPU and CUDA. With it,
//! torch-ext provides fused kernels on both, and on CUDA eigenvectors of many matrices at a time,
//! TF32 products and memory statistics. The state files are the same.
//!
//! # Telling
//!
//! Each refresh is a `tracing` span `refresh` at debug level, with the number of `matrices`. A
//! solver that fails is a warning.
//!
//! # Example
//!
//! ```
//! use galore_optim::{
//!     AdamConfig, GaLoreAdamW, Optimizer, Parameter, ParameterGroup, WeightUpdate, parse_optim_args,
//! };
//! use tch::{Device, Kind, Tensor};
//!
//! let weight = Tensor::f_zeros([6, 4], (Kind::Float, Device::Cpu))?;
//! let wanted = Tensor::f_arange(24, (Kind::Float, Device::Cpu))?.f_view([6, 4])? / 24.0;
//! let mut gradient = weight.f_zeros_like()?;
//!
//! let parameters = vec![Parameter::new("mlp.weight", &weight).with_gradient(&gradient)];
//! let targets = ParameterGroup::new(parameters, AdamConfig::galore_default())
//!     .with_galore(parse_optim_args("rank=2, update_proj_gap=50, scale=1.0")?);
//! let mut optimizer = GaLoreAdamW::new(vec![targets], WeightUpdate::Exact)?;
//!
//! for _ in 0..400 {
//!     gradient.f_copy_(&(&weight - &wanted))?;
//!     optimizer.step(0.01)?;
//! }
//! let worst = (&weight - &wanted).f_abs()?.f_max()?.f_double_value(&[])?;
//! assert!(worst < 0.05, "{worst}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod accelerated;
mod adam;
mod basis;
mod codec;
mod config;
mod eigenbasis;
mod engine;
mod error;
mod family;
mod galore;
mod galore_config;
mod gradient_check;
mod gradients;
mod master;
mod memory_budget;
mod moments;
mod optim_args;
mod optimizer;
mod parameter;
mod parameter_state;
mod projector;
mod refresh;
mod refresh_schedule;
mod scratch;
mod stack;
mod state;
mod stored_basis;
mod targets;
mod transport;
mod update;

pub use config::{AdamConfig, MomentDtype, WeightUpdate};
pub use error::Error;
pub use galore::GaLore;
pub use galore_config::{
    BasisChange, BasisStorage, GaLoreConfig, ProjectionType, Rank, RefreshTiming, Scale, SubspaceSolver,
};
pub use gradient_check::GradientCheck;
pub use gradients::{clip_gradients, global_gradient_norm};
pub use optim_args::parse_optim_args;
pub use optimizer::{Adafactor, AdamW, AdamW8bit, Apollo, GaLoreAdamW, Optimizer};
pub use parameter::{Parameter, ParameterGroup};
pub use state::StateFile;
pub use targets::{TargetModules, select_targets};
/// The release of tch that this crate is built with. Tensors of another release are other types.
pub use tch;
pub use update::ApolloScaling;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
