//! Writing a model's folder as transformers does: config.json, generation_config.json, and
//! model.safetensors, or shards with model.safetensors.index.json once the weights pass
//! [`MAX_SHARD_BYTES`].
//!
//! [`CausalLm::save`] writes the folder. [`CausalLm::files`] and [`CausalLm::snapshot`] return the
//! files for the caller to write, the latter with a copy of the weights.
//!
//! Headers come from the safetensors crate's own types. Its writers are not used: they write to a
//! path or to one buffer in memory, while checkpoints are streamed to a [`Write`].

use crate::{CausalLm, Error, WeightDtype};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use torch_ext::{HostBufferPool, HostCopy};

/// The most bytes of weights in one file, as in transformers. The hub's upload and most file
/// systems handle files up to this size well.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;
/// Weights that are brought to the host and written at a time.
const PIECE_ELEMENTS: i64 = 1 << 20;
/// Bytes of the number that gives the header's length. The header is padded to a multiple of them.
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
    /// A safetensors file: header length and header, then the weights in the header's order.
    Weights {
        header: Vec<u8>,
        weights: Weights,
    },
}

#[derive(Debug)]
enum Weights {
    /// The model's own tensors, with the values they have when they are written.
    Shared(Vec<Tensor>),
    /// The values they had when the file was made.
    Copied(HostCopy),
}

/// Where the files that are made take their weights from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WeightsSource<'m> {
    /// The model's own memory, when they are written.
    Shared,
    /// A copy in this memory, made at once.
    CopiedTo(&'m HostBufferPool),
}

impl ModelFile {
    /// The file's name in the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the file's content.
    ///
    /// # Errors
    /// [`Error::Write`] if `to` fails, [`Error::Torch`] when weights cannot be brought to the host.
    pub fn write_to(&self, to: &mut dyn Write) -> Result<(), Error> {
        let failed = |source| Error::Write { path: PathBuf::from(&self.name), source };
        let weights = match &self.content {
            Content::Text(text) => return to.write_all(text).map_err(failed),
            Content::Weights { header, weights } => {
                to.write_all(header).map_err(failed)?;
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

    /// A JSON file as transformers writes it: indented by two, with a newline at the end.
    fn json(name: &str, value: &Value) -> Result<Self, Error> {
        let failed = |source| Error::Json { path: PathBuf::from(name), source };
        let text = serde_json::to_string_pretty(value).map_err(failed)? + "\n";
        Ok(Self { name: name.to_owned(), content: Content::Text(text.into_bytes()) })
    }

    /// A safetensors file, byte for byte as the safetensors crate writes it. All weights have type
    /// `dtype` and are sorted by name.
    fn weights(name: String, dtype: Dtype, weights: Vec<Weight>, source: WeightsSource<'_>) -> Result<Self, Error> {
        let mut end = 0;
        let infos = weights.iter().map(|Weight { name, shape, num_bytes, .. }| {
            let start = end;
            end += num_bytes;
            (name.clone(), TensorInfo { dtype, shape: shape.clone(), data_offsets: (start, end) })
        });
        // transformers refuses files without this entry.
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let path = PathBuf::from(&name);
        let metadata = Metadata::new(Some(format), infos.collect())
            .map_err(|error| Error::Safetensors { path: path.clone(), problem: error.to_string() })?;
        let mut json = serde_json::to_vec(&metadata).map_err(|source| Error::Json { path, source })?;
        json.resize(json.len().next_multiple_of(LENGTH_BYTES), b' ');
        let header = [&(json.len() as u64).to_le_bytes(), json.as_slice()].concat();
        let weights: Vec<Tensor> = weights.into_iter().map(|weight| weight.tensor).collect();
        let weights = match source {
            WeightsSource::Shared => Weights::Shared(weights),
            WeightsSource::CopiedTo(memory) => Weights::Copied(memory.copy(&weights)?),
        };
        Ok(Self { name, content: Content::Weights { header, weights } })
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
    for file in files(model, WeightsSource::Shared, max_shard_bytes)? {
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
pub(crate) fn files(
    model: &CausalLm,
    source: WeightsSource<'_>,
    max_shard_bytes: u64,
) -> Result<Vec<ModelFile>, Error> {
    let kind = model.parameters().flat_weights().f_kind()?;
    let dtype = match kind {
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        Kind::Double => Dtype::F64,
        _ => Dtype::F32,
    };
    let dtype_name = match WeightDtype::from_kind(kind) {
        Some(dtype) => dtype.to_string(),
        None => "float64".to_owned(), // for tests only
    };
    let generation_config = crate::generation_config::for_saving(model.generation_config.as_ref(), model.config());
    let mut files = vec![
        ModelFile::json("config.json", &model.config().to_json(&dtype_name))?,
        ModelFile::json("generation_config.json", &generation_config)?,
    ];
    let mut weights: Vec<Weight> = model
        .parameters()
        .specs()
        .iter()
        .zip(model.parameters().weights())
        .map(|(spec, tensor)| Weight {
            name: spec.name.clone(),
            shape: spec.shape.iter().map(|size| size.unsigned_abs() as usize).collect(),
            num_bytes: tensor.numel() * kind.elt_size_in_bytes(),
            tensor: tensor.shallow_clone(),
        })
        .collect();
    weights.sort_by(|one, other| one.name.cmp(&other.name));

    let total_bytes: usize = weights.iter().map(|weight| weight.num_bytes).sum();
    let shards = into_shards(weights, max_shard_bytes);
    let count = shards.len();
    let mut weight_map = Map::new();
    for (index, shard) in shards.into_iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        weight_map.extend(shard.iter().map(|weight| (weight.name.clone(), Value::from(file.as_str()))));
        files.push(ModelFile::weights(file, dtype, shard, source)?);
    }
    if count > 1 {
        let metadata = json!({"total_parameters": model.parameters().num_parameters(), "total_size": total_bytes});
        let index = json!({"metadata": metadata, "weight_map": weight_map});
        files.push(ModelFile::json("model.safetensors.index.json", &index)?);
    }
    Ok(files)
}

/// Splits weights, in their order, into shards of at most `max_shard_bytes`. A weight that is
/// larger gets a shard of its own.
fn into_shards(weights: Vec<Weight>, max_shard_bytes: u64) -> Vec<Vec<Weight>> {
    let mut shards: Vec<Vec<Weight>> = Vec::new();
    let mut shard_bytes = 0;
    for weight in weights {
        let num_bytes = weight.num_bytes as u64;
        match shards.last_mut() {
            Some(shard) if shard_bytes == 0 || shard_bytes + num_bytes <= max_shard_bytes => {
                shard.push(weight);
                shard_bytes += num_bytes;
            }
            _ => {
                shards.push(vec![weight]);
                shard_bytes = num_bytes;
            }
        }
    }
    shards
}

#[cfg(test)]
mod tests;
