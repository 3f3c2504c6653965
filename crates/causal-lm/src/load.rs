//! Reading a model's folder: config.json, then `model.safetensors` or the shards that `model.safetensors.index.json` names.
//!
//! Every name, shape and type is checked against the headers before memory is taken for weights; then tensors are copied out of the
//! memory-mapped files one at a time.

use crate::{CausalLm, Config, Error, ModelOptions};
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use torch_ext::MappedFile;

/// What a load found besides the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors in the files that the model has no use for.
    pub extra_tensors: Vec<String>,
}

impl CausalLm {
    /// Loads a model from a folder in Hugging Face's layout.
    ///
    /// # Errors
    /// Each names the file, and the field or tensor: [`Error::Read`], [`Error::Json`], [`Error::Config`], [`Error::Safetensors`],
    /// [`Error::MissingTensors`], [`Error::TensorShape`], [`Error::TensorType`]; [`Error::Torch`] when memory is lacking.
    pub fn load(dir: &Path, mut options: ModelOptions) -> Result<(Self, LoadReport), Error> {
        let config = Config::from_dir(dir)?;
        let paths = weight_files(dir)?;
        let maps = paths.iter().map(|path| MappedFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        let mut files = Vec::with_capacity(maps.len());
        for (path, map) in paths.iter().zip(&maps) {
            let damaged = |problem: String| Error::Safetensors { path: path.clone(), problem };
            files.push(SafeTensors::deserialize(map).map_err(|error| damaged(error.to_string()))?);
        }
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (file, tensors) in files.iter().enumerate() {
            places.extend(tensors.names().into_iter().map(|name| (name, file)));
        }

        if options.dtype.is_none() {
            options.dtype = Some(own_dtype(&config, &files));
        }
        let generation_config = crate::generation_config::read(dir)?;
        let expected = crate::model::specs(&config);
        check(dir, &paths, &files, &places, &expected)?;

        let device = options.device;
        let mut model = Self::zeros(config, options)?;
        model.generation_config = generation_config;
        for (spec, weight) in model.parameters().specs().iter().zip(model.parameters().weights()) {
            let Some(view) = places.get(spec.name.as_str()).and_then(|file| files[*file].tensor(&spec.name).ok())
            else {
                continue; // checked above
            };
            let Some(kind) = kind_of(view.dtype()) else { continue };
            let tensor = Tensor::f_from_data_size(view.data(), &spec.shape, kind)?;
            let _ = weight.shallow_clone().f_copy_(&tensor.f_to_device(device)?)?;
        }
        let wanted: BTreeSet<&str> = expected.iter().map(|spec| spec.name.as_str()).collect();
        let is_extra = |name: &&str| {
            // A tied head is often saved again, and rotary frequencies follow from the configuration.
            let known_copy = (*name == "lm_head.weight" && model.config().tie_word_embeddings)
                || name.ends_with(".rotary_emb.inv_freq");
            !wanted.contains(name) && !known_copy
        };
        let extra_tensors = places.keys().copied().filter(is_extra).map(str::to_owned).collect();
        Ok((model, LoadReport { extra_tensors }))
    }
}

/// The safetensors files of a folder, in order of their names.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let single = dir.join("model.safetensors");
    let index = dir.join("model.safetensors.index.json");
    if single.exists() || !index.exists() {
        if single.exists() {
            return Ok(vec![single]);
        }
        let has_pickle = dir.join("pytorch_model.bin").exists() || dir.join("pytorch_model.bin.index.json").exists();
        let hint = if has_pickle {
            "not found; pytorch_model.bin is a pickle and is never read: save the model as safetensors first"
        } else {
            "not found, nor model.safetensors.index.json"
        };
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, hint);
        return Err(Error::Read { path: single, source });
    }
    let text = std::fs::read(&index).map_err(Error::read(&index))?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path: index.clone(), source })?;
    let unfit = |problem: &str| Error::Safetensors { path: index.clone(), problem: problem.to_owned() };
    let map =
        json.get("weight_map").and_then(|map| map.as_object()).ok_or_else(|| unfit("it has no weight_map object"))?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().ok_or_else(|| unfit("weight_map holds a value that is not a string"))?;
        // An index from elsewhere must not reach outside its folder.
        if name.is_empty() || name.contains(['/', '\\']) || name == ".." {
            return Err(unfit(&format!("weight_map names {name:?}, which is not a file of this folder")));
        }
        names.insert(name);
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn check(
    dir: &Path,
    paths: &[PathBuf],
    files: &[SafeTensors<'_>],
    places: &BTreeMap<&str, usize>,
    expected: &[crate::ParameterSpec],
) -> Result<(), Error> {
    let mut missing = Vec::new();
    for spec in expected {
        let Some(file) = places.get(spec.name.as_str()) else {
            missing.push(spec.name.clone());
            continue;
        };
        let path = &paths[*file];
        let view = files[*file]
            .tensor(&spec.name)
            .map_err(|error| Error::Safetensors { path: path.clone(), problem: error.to_string() })?;
        let fits = view.shape().iter().map(|size| i64::try_from(*size).unwrap_or(-1)).eq(spec.shape.iter().copied());
        let (path, name) = (path.clone(), spec.name.clone());
        if !fits {
            return Err(Error::TensorShape { path, name, expected: spec.shape.clone(), found: view.shape().to_vec() });
        }
        if kind_of(view.dtype()).is_none() {
            return Err(Error::TensorType { path, name, found: format!("{:?}", view.dtype()) });
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Error::MissingTensors { path: dir.to_owned(), names: missing }) }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F16 => Some(Kind::Half),
        _ => None,
    }
}

/// The type to hold weights in when the caller leaves it open: what config.json says, else that of the embedding, else float32.
fn own_dtype(config: &Config, files: &[SafeTensors<'_>]) -> Kind {
    match config.dtype.as_deref() {
        Some("bfloat16") => return Kind::BFloat16,
        Some("float16") => return Kind::Half,
        Some("float32") => return Kind::Float,
        _ => {}
    }
    let embedding = files.iter().find_map(|file| file.tensor("model.embed_tokens.weight").ok());
    embedding.and_then(|view| kind_of(view.dtype())).unwrap_or(Kind::Float)
}

/// A tensor's bytes on the host, for writing.
pub(crate) fn host_bytes(tensor: &Tensor) -> Result<Vec<u8>, Error> {
    let host = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let numel = host.numel();
    let mut bytes = vec![0; numel * host.f_kind()?.elt_size_in_bytes()];
    host.f_copy_data_u8(&mut bytes, numel)?;
    Ok(bytes)
}
