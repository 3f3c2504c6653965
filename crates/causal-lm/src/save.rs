//! Writing a model's folder as transformers does: config.json, generation_config.json, and model.safetensors, or shards with
//! model.safetensors.index.json once the weights pass [`MAX_SHARD_BYTES`].

use crate::load::host_bytes;
use crate::{CausalLm, Error};
use safetensors::tensor::{Dtype, View};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Weights beyond this many bytes go into several files: the hub's upload and most file systems are happy below it.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

pub(crate) fn save(model: &CausalLm, dir: &Path) -> Result<(), Error> {
    save_in_shards(model, dir, MAX_SHARD_BYTES)
}

fn save_in_shards(model: &CausalLm, dir: &Path, max_shard_bytes: u64) -> Result<(), Error> {
    let kind = model.parameters().flat_weights().f_kind()?;
    let (dtype, name) = match kind {
        Kind::BFloat16 => (Dtype::BF16, "bfloat16"),
        Kind::Half => (Dtype::F16, "float16"),
        Kind::Double => (Dtype::F64, "float64"),
        _ => (Dtype::F32, "float32"),
    };
    write_json(&dir.join("config.json"), &model.config().to_json(name))?;
    let generation_config = crate::generation_config::for_saving(model.generation_config.as_ref(), model.config());
    write_json(&dir.join("generation_config.json"), &generation_config)?;

    let failure = RefCell::new(None);
    let mut tensors: Vec<(&str, Lazy<'_>)> = model
        .parameters()
        .specs()
        .iter()
        .zip(model.parameters().weights())
        .map(|(spec, tensor)| {
            let shape = spec.shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
            (spec.name.as_str(), Lazy { tensor, shape, dtype, failure: &failure })
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(b.0));

    let mut shards: Vec<Vec<(&str, Lazy<'_>)>> = vec![Vec::new()];
    let (mut shard_bytes, mut total_bytes) = (0u64, 0u64);
    for (name, tensor) in tensors {
        let bytes = tensor.data_len() as u64;
        if shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes {
            shards.push(Vec::new());
            shard_bytes = 0;
        }
        shard_bytes += bytes;
        total_bytes += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push((name, tensor));
        }
    }

    let count = shards.len();
    let mut weight_map = Map::new();
    for (index, shard) in shards.into_iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        weight_map.extend(shard.iter().map(|(name, _)| ((*name).to_owned(), Value::from(file.as_str()))));
        let path = dir.join(file);
        // transformers refuses a file that does not say which framework wrote it.
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(shard, Some(metadata), &path).map_err(|error| Error::Write {
            path: path.clone(),
            source: match error {
                safetensors::SafeTensorError::IoError(source) => source,
                other => std::io::Error::other(other.to_string()),
            },
        })?;
        if let Some(error) = failure.borrow_mut().take() {
            return Err(error);
        }
    }
    if count > 1 {
        let metadata = json!({"total_parameters": model.parameters().num_parameters(), "total_size": total_bytes});
        let index = json!({"metadata": metadata, "weight_map": weight_map});
        write_json(&dir.join("model.safetensors.index.json"), &index)?;
    }
    Ok(())
}

/// A weight that is copied to the host when its turn comes, so that saving needs memory for one tensor, not for all.
struct Lazy<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
    dtype: Dtype,
    /// `View::data` cannot fail; what fails in it is left here.
    failure: &'a RefCell<Option<Error>>,
}

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        host_bytes(self.tensor).map_or_else(
            |error| {
                *self.failure.borrow_mut() = Some(error);
                Cow::Owned(vec![0; self.data_len()])
            },
            Cow::Owned,
        )
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Indented by two and with a newline at the end, as transformers writes it.
fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let failed = |source| Error::Json { path: path.to_owned(), source };
    let text = serde_json::to_string_pretty(value).map_err(failed)? + "\n";
    std::fs::write(path, text).map_err(Error::write(path))
}

#[cfg(test)]
mod tests;
