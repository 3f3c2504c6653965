//! The committed inputs and expected figures. `goldens/make_parity.py` creates them.

use std::path::{Path, PathBuf};

/// A tiny model, `qwen2` or `llama`, in float32. Its tokenizer has one token per word and a
/// vocabulary of 64.
pub fn model(architecture: &str) -> PathBuf {
    path("models").join(architecture)
}

/// 78 rows to train on and 8 to evaluate on.
pub fn words() -> PathBuf {
    path("words")
}

/// A file or folder of the goldens.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(name)
}
