//! GaLore AdamW and AdamW for libtorch tensors, equal to galore-torch 1.0 (with its singular
//! vectors, the default on the CPU) and `torch.optim.AdamW` step for step.
//!
//! GaLore ([2403.03507](https://arxiv.org/abs/2403.03507)) keeps Adam's moments in a low-rank
//! subspace of each weight matrix. For a target `W [rows, cols]` with rows ≥ cols (the other cases
//! are in [`ProjectionType`]):
//!
//! ```text
//!            every update_proj_gap steps: G = U S Vᵀ, keep the r leading rows of Vᵀ as the basis
//!                                             │
//!  G [rows, cols] ──── R = G V ────► R [rows, r] ──► moments m, v [rows, r] ──► N = m / (√v + ε)
//!                                                                                       │
//!  W [rows, cols] ◄── W − step size · scale · N Vᵀ, then decay, then rounding ◄─────────┘
//! ```
//!
//! - [`select_targets`] picks the targets among linear modules as transformers does,
//!   [`parse_optim_args`] reads its `optim_args`.
//! - [`GaLoreAdamW`] runs targets in their subspaces and everything else as plain AdamW of the same
//!   formula. [`AdamW`] is torch's, with which it differs in where ε and the bias corrections go.
//! - [`RefreshTiming`] says whether all targets make their bases anew on one step or each on its
//!   own, [`SubspaceSolver`] how: by singular vectors, or by eigenvectors of `GᵀG`, which hold as
//!   much of the gradient and take a fraction of the time.
//! - Both are an [`Optimizer`]: step, and save and load the state as safetensors, exactly.
//! - [`global_gradient_norm`] and [`clip_gradients`] come before the step, if wanted.
//!
//! Weights are updated in place and may be views into a larger buffer. They are float32, or
//! bfloat16 with a [`WeightUpdate`]: at small learning rates most updates are less than half of a
//! bfloat16's last place, and rounding to nearest loses them. [`WeightUpdate::Exact`] keeps the
//! other 16 bits of a float32 beside each weight. Moments and bases are float32, or 16 bits wide by
//! [`MomentDtype`].
//!
//! A step allocates nothing large and, decompositions apart, does not wait for the device. On the
//! CPU the elementwise part runs over ranges that stay in the cache.
//!
//! ```
//! use galore_optim::{
//!     AdamConfig, GaLoreAdamW, Optimizer, Parameter, ParameterGroup, WeightUpdate, parse_optim_args,
//! };
//! use tch::{Device, Kind, Tensor};
//!
//! let options = (Kind::Float, Device::Cpu);
//! let weight = Tensor::f_zeros([6, 4], options)?;
//! let wanted = Tensor::f_arange(24, options)?.f_view([6, 4])? / 24.0;
//! let gradient = weight.f_zeros_like()?;
//!
//! let targets = ParameterGroup {
//!     parameters: vec![Parameter {
//!         name: "mlp.weight".to_owned(),
//!         weight: weight.shallow_clone(),
//!         gradient: Some(gradient.shallow_clone()),
//!     }],
//!     adam: AdamConfig::galore_default(),
//! };
//! let galore = parse_optim_args("rank=2, update_proj_gap=50, scale=1.0")?;
//! let mut optimizer = GaLoreAdamW::new(targets, vec![], &galore, WeightUpdate::Exact)?;
//!
//! for _ in 0..400 {
//!     gradient.shallow_clone().f_copy_(&(&weight - &wanted))?;
//!     optimizer.step(0.01)?;
//! }
//! let worst = (&weight - &wanted).f_abs()?.f_max()?.f_double_value(&[])?;
//! assert!(worst < 0.05, "{worst}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod adam;
mod config;
mod core;
mod eigenbasis;
mod error;
mod fused;
mod gradients;
mod in_place;
mod master;
mod moments;
mod optim_args;
mod optimizer;
mod parameter;
mod parameter_state;
mod projector;
mod refresh_memory;
mod scratch;
mod stack;
mod stagger;
mod state;
mod targets;

pub use config::{AdamConfig, GaLoreConfig, MomentDtype, ProjectionType, RefreshTiming, SubspaceSolver, WeightUpdate};
pub use error::Error;
pub use gradients::{clip_gradients, global_gradient_norm};
pub use optim_args::parse_optim_args;
pub use optimizer::{AdamW, GaLoreAdamW, Optimizer};
pub use parameter::{Parameter, ParameterGroup};
pub use state::StateSnapshot;
pub use targets::{TargetModules, select_targets};
