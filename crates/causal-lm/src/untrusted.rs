//! Guards against files that were made to do harm, or are badly damaged.
//!
//! A model's folder may come from anywhere. What it says about sizes is checked here before memory
//! is allocated, and what it says about paths before a file is opened. The safetensors crate checks
//! the header of a weight file.

pub(crate) mod config;
pub(crate) mod files;
pub(crate) mod text;
pub(crate) mod weights;
