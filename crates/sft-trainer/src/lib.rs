//! Supervised fine-tuning of a causal language model.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod hub;
