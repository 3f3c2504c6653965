//! Writing a model's folder as transformers does: config.json, generation_config.json, and
//! model.safetensors, or shards with model.safetensors.index.json once the weights pass
//! [`MAX_SHARD_BYTES`].
//!
//! [`CausalLm::save`](crate::CausalLm::save) writes the folder;
//! [`CausalLm::files`](crate::CausalLm::files) and
//! [`CausalLm::snapshot`](crate::CausalLm::snapshot) hand out the files, to be written wherever
//! and, the latter, whenever.

use crate::{CausalLm, Error};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use torch_ext::{HostCopy, HostMemory};

/// Weights beyond this many bytes go into several files: the hub's upload and most file systems are
/// happy below it.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;
/// Weights brought to the host and written at a time.
const PIECE_ELEMENTS: i64 = 1 << 20;
/// Of the header's length, and what the header is padded to.
const LENGTH_BYTES: usize = size_of::<u64>();

/// A file of a model's folder.
#[derive(Debug)]
pub struct ModelFile {
    name: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text(Vec<u8>),
    /// What a safetensors file begins with, and the weights in its order.
    Weights {
        head: Vec<u8>,
        weights: Weights,
    },
}

#[derive(Debug)]
enum Weights {
    /// As they are when they are written.
    Shared(Vec<Tensor>),
    /// As they were.
    Copied(HostCopy),
}

/// Which weights files are to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment<'m> {
    /// Those of the time of writing.
    Writing,
    /// Those of now, copied to this memory.
    Now(&'m HostMemory),
}

impl ModelFile {
    /// Its name in the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes its content.
    ///
    /// # Errors
    /// [`Error::Write`] if `to` fails, [`Error::Torch`] when weights cannot be brought to the host.
    pub fn write_to(&self, to: &mut dyn Write) -> Result<(), Error> {
        let failed = |source| Error::Write { path: PathBuf::from(&self.name), source };
        let weights = match &self.content {
            Content::Text(text) => return to.write_all(text).map_err(failed),
            Content::Weights { head, weights } => {
                to.write_all(head).map_err(failed)?;
                weights
            }
        };
        let weights = match weights {
            Weights::Copied(bytes) => return to.write_all(bytes).map_err(failed),
            Weights::Shared(weights) => weights,
        };
        let mut bytes = Vec::new();
        for weight in weights {
            let flat = weight.f_contiguous()?.f_view([-1])?;
            let length = flat.size1()?;
            for start in (0..length).step_by(PIECE_ELEMENTS as usize) {
                let piece = flat.f_narrow(0, start, PIECE_ELEMENTS.min(length - start))?.f_to_device(Device::Cpu)?;
                bytes.resize(piece.numel() * piece.f_kind()?.elt_size_in_bytes(), 0);
                piece.f_copy_data_u8(&mut bytes, piece.numel())?;
                to.write_all(&bytes).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Indented by two and with a newline at the end, as transformers writes it.
    fn json(name: &str, value: &Value) -> Result<Self, Error> {
        let failed = |source| Error::Json { path: PathBuf::from(name), source };
        let text = serde_json::to_string_pretty(value).map_err(failed)? + "\n";
        Ok(Self { name: name.to_owned(), content: Content::Text(text.into_bytes()) })
    }

    /// A safetensors file laid out as the crate of that name does; all weights have one type and
    /// are sorted by name.
    fn weights(name: String, dtype: Dtype, weights: Vec<Weight>, moment: Moment<'_>) -> Result<Self, Error> {
        let mut end = 0;
        let infos = weights.iter().map(|Weight { name, shape, num_bytes, .. }| {
            let start = end;
            end += num_bytes;
            (name.clone(), TensorInfo { dtype, shape: shape.clone(), data_offsets: (start, end) })
        });
        // transformers refuses a file that does not say which framework wrote it.
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let path = PathBuf::from(&name);
        let metadata = Metadata::new(Some(format), infos.collect())
            .map_err(|error| Error::Safetensors { path: path.clone(), problem: error.to_string() })?;
        let mut header = serde_json::to_vec(&metadata).map_err(|source| Error::Json { path, source })?;
        header.resize(header.len().next_multiple_of(LENGTH_BYTES), b' ');
        let mut head = (header.len() as u64).to_le_bytes().to_vec();
        head.append(&mut header);
        let weights: Vec<Tensor> = weights.into_iter().map(|weight| weight.tensor).collect();
        let weights = match moment {
            Moment::Writing => Weights::Shared(weights),
            Moment::Now(memory) => Weights::Copied(memory.copy(&weights)?),
        };
        Ok(Self { name, content: Content::Weights { head, weights } })
    }
}

struct Weight {
    name: String,
    shape: Vec<usize>,
    num_bytes: usize,
    tensor: Tensor,
}

pub(crate) fn save(model: &CausalLm, dir: &Path) -> Result<(), Error> {
    save_in_shards(model, dir, MAX_SHARD_BYTES)
}

fn save_in_shards(model: &CausalLm, dir: &Path, max_shard_bytes: u64) -> Result<(), Error> {
    for file in files(model, Moment::Writing, max_shard_bytes)? {
        let path = dir.join(&file.name);
        let mut to = File::create(&path).map_err(Error::write(&path))?;
        file.write_to(&mut to).map_err(|error| match error {
            Error::Write { source, .. } => Error::Write { path, source },
            other => other,
        })?;
    }
    Ok(())
}

/// The folder's files, in the order to write them: an index comes after the shards that it names.
pub(crate) fn files(model: &CausalLm, moment: Moment<'_>, max_shard_bytes: u64) -> Result<Vec<ModelFile>, Error> {
    let kind = model.parameters().flat_weights().f_kind()?;
    let (dtype, name) = match kind {
        Kind::BFloat16 => (Dtype::BF16, "bfloat16"),
        Kind::Half => (Dtype::F16, "float16"),
        Kind::Double => (Dtype::F64, "float64"),
        _ => (Dtype::F32, "float32"),
    };
    let generation_config = crate::generation_config::for_saving(model.generation_config.as_ref(), model.config());
    let mut files = vec![
        ModelFile::json("config.json", &model.config().to_json(name))?,
        ModelFile::json("generation_config.json", &generation_config)?,
    ];
    let mut weights: Vec<Weight> = model
        .parameters()
        .specs()
        .iter()
        .zip(model.parameters().weights())
        .map(|(spec, tensor)| Weight {
            name: spec.name.clone(),
            shape: spec.shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect(),
            num_bytes: tensor.numel() * kind.elt_size_in_bytes(),
            tensor: tensor.shallow_clone(),
        })
        .collect();
    weights.sort_by(|one, other| one.name.cmp(&other.name));

    let mut shards: Vec<Vec<Weight>> = vec![Vec::new()];
    let (mut shard_bytes, mut total_bytes) = (0u64, 0u64);
    for weight in weights {
        let bytes = weight.num_bytes as u64;
        if shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes {
            shards.push(Vec::new());
            shard_bytes = 0;
        }
        shard_bytes += bytes;
        total_bytes += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(weight);
        }
    }

    let count = shards.len();
    let mut weight_map = Map::new();
    for (index, shard) in shards.into_iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        weight_map.extend(shard.iter().map(|weight| (weight.name.clone(), Value::from(file.as_str()))));
        files.push(ModelFile::weights(file, dtype, shard, moment)?);
    }
    if count > 1 {
        let metadata = json!({"total_parameters": model.parameters().num_parameters(), "total_size": total_bytes});
        let index = json!({"metadata": metadata, "weight_map": weight_map});
        files.push(ModelFile::json("model.safetensors.index.json", &index)?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
