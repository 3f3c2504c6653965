//! GaLore AdamW and AdamW for libtorch tensors.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod adam;
mod config;
mod core;
mod error;
mod gradients;
mod in_place;
mod master;
mod optim_args;
mod optimizer;
mod parameter;
mod projector;
mod scratch;
mod state;
mod targets;

pub use config::{AdamConfig, GaLoreConfig, ProjectionType, WeightUpdate};
pub use error::Error;
pub use gradients::{clip_gradients, global_gradient_norm};
pub use optim_args::parse_optim_args;
pub use optimizer::{AdamW, GaLoreAdamW, Optimizer};
pub use parameter::{Parameter, ParameterGroup};
pub use targets::{TargetModules, select_targets};
