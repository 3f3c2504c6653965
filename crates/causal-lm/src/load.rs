//! Reading a model's folder: config.json, then `model.safetensors`, or the shards that
//! `model.safetensors.index.json` names.
//!
//! The names, shapes and types of all tensors are checked before memory is allocated for weights.
//! Then tensors are copied out of the memory-mapped files one at a time.

use crate::finite::is_finite;
use crate::untrusted::files::{self, FileLimit};
use crate::untrusted::weights::{FileTensor, TensorsByName, header_problem, kind_of, matching, shard_path};
use crate::{CausalLm, Config, Error, ModelOptions, ParameterSpec, WeightDtype};
use safetensors::SafeTensors;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use torch_ext::MappedFile;

/// Weights that are copied at a time.
const PIECE_ELEMENTS: usize = 1 << 20;

/// What a load found beside the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors in the files that the model does not use.
    pub extra_tensors: Vec<String>,
    /// Whether the files hold a head that differs from the embedding although the configuration
    /// ties the two. The model then has a head of its own.
    pub head_untied: bool,
    /// What config.json holds without effect: [`Config::ignored_fields`].
    pub ignored_fields: Vec<String>,
}

impl CausalLm {
    /// Loads a model from a folder in Hugging Face's layout.
    ///
    /// # Errors
    /// Each names the file, and the field or tensor: [`Error::Read`], [`Error::Json`],
    /// [`Error::Config`], [`Error::Index`], [`Error::Safetensors`], [`Error::MissingTensors`],
    /// [`Error::TensorShape`], [`Error::TensorType`], [`Error::TensorNotFinite`]. [`Error::Torch`]
    /// when memory is short.
    pub fn load(dir: &Path, mut options: ModelOptions) -> Result<(Self, LoadReport), Error> {
        let mut config = Config::from_dir(dir)?;
        let generation_config = crate::generation_config::read(dir)?;
        let files = MappedFiles::open(dir)?;
        let tensors = files.tensors()?;
        let head_untied = config.tie_word_embeddings && head_differs_from_embedding(&tensors);
        if head_untied {
            config.untie_head();
        }
        matching(&tensors, &crate::layout::specs(&config), dir)?;
        if options.dtype.is_none() {
            options.dtype = Some(own_dtype(&config, &tensors, dir)?);
        }
        let mut model = Self::zeros(config, options)?;
        model.generation_config = generation_config;
        model.copy_weights(&matching(&tensors, model.parameters().specs(), dir)?)?;
        let extra_tensors = extra_tensors(&tensors, &model);
        let ignored_fields = model.config().ignored_fields.clone();
        Ok((model, LoadReport { extra_tensors, head_untied, ignored_fields }))
    }

    /// Overwrites the weights with those of another folder, for example a checkpoint of the same
    /// model. Views into the weights stay valid.
    ///
    /// # Errors
    /// As [`Self::load`], without those of config.json. If a tensor is missing or does not fit,
    /// nothing is overwritten.
    pub fn load_weights(&mut self, dir: &Path) -> Result<(), Error> {
        let files = MappedFiles::open(dir)?;
        let tensors = files.tensors()?;
        self.copy_weights(&matching(&tensors, self.parameters().specs(), dir)?)
    }

    /// Copies tensors, in the order of the parameters, into the weights, and checks that all are
    /// finite.
    fn copy_weights(&self, tensors: &[FileTensor<'_, '_>]) -> Result<(), Error> {
        let parameters = self.parameters();
        let on_host = self.options.device == Device::Cpu;
        let mut progress = LoadingProgress::new(tensors.iter().map(|tensor| tensor.view.data().len()).sum());
        for ((spec, weight), tensor) in parameters.specs().iter().zip(parameters.weights()).zip(tensors) {
            let (flat, element_bytes) = (weight.f_view([-1])?, tensor.kind.elt_size_in_bytes());
            let mut start = 0;
            for bytes in tensor.view.data().chunks(PIECE_ELEMENTS * element_bytes) {
                let length = (bytes.len() / element_bytes) as i64;
                let mut piece = flat.f_narrow(0, start, length)?;
                piece.f_copy_(&Tensor::f_from_data_size(bytes, &[length], tensor.kind)?)?;
                // A piece that was just written is still in the cache.
                if on_host && !is_finite(&piece)? {
                    return Err(not_finite(spec, tensor, weight)?);
                }
                start += length;
                progress.add(bytes.len());
            }
        }
        // On a GPU all at once, because each check waits for the device.
        if on_host || is_finite(parameters.flat_weights())? {
            return Ok(());
        }
        for ((spec, weight), tensor) in parameters.specs().iter().zip(parameters.weights()).zip(tensors) {
            if !is_finite(weight)? {
                return Err(not_finite(spec, tensor, weight)?);
            }
        }
        Ok(())
    }
}

fn not_finite(spec: &ParameterSpec, tensor: &FileTensor<'_, '_>, weight: &Tensor) -> Result<Error, Error> {
    let dtype = WeightDtype::from_kind(weight.f_kind()?).unwrap_or_default().to_string();
    Ok(Error::TensorNotFinite { path: tensor.path.to_path_buf(), name: spec.name.clone(), dtype })
}

/// Tells how many bytes of the weights have been read.
struct LoadingProgress {
    done: usize,
    total: usize,
    told: usize,
}

impl LoadingProgress {
    /// Bytes between two events.
    const STEP: usize = 4 << 20;

    fn new(total: usize) -> Self {
        Self { done: 0, total, told: 0 }
    }

    fn add(&mut self, num_bytes: usize) {
        self.done += num_bytes;
        if self.done - self.told >= Self::STEP || self.done == self.total {
            self.told = self.done;
            let (done, total) = (self.done as u64, self.total as u64);
            tracing::info!(target: "progress", stage = "loading weights", done, total, unit = "bytes");
        }
    }
}

/// The weight files of a folder, mapped.
struct MappedFiles(Vec<(PathBuf, MappedFile)>);

impl MappedFiles {
    fn open(dir: &Path) -> Result<Self, Error> {
        let open = |path: PathBuf| -> Result<_, Error> {
            files::check_file(&path).map_err(Error::read(&path))?;
            let map = MappedFile::open(&path)?;
            Ok((path, map))
        };
        Ok(Self(weight_files(dir)?.into_iter().map(open).collect::<Result<_, _>>()?))
    }

    fn tensors(&self) -> Result<TensorsByName<'_>, Error> {
        let mut tensors = TensorsByName::new();
        for (path, map) in &self.0 {
            let file = SafeTensors::deserialize(map)
                .map_err(|error| Error::Safetensors { path: path.clone(), problem: header_problem(&error) })?;
            tensors.extend(file.tensors().into_iter().map(|(name, view)| (name, (path.as_path(), view))));
        }
        Ok(tensors)
    }
}

/// Whether the files hold both tensors with different values. transformers does not tie the head
/// then.
fn head_differs_from_embedding(tensors: &TensorsByName<'_>) -> bool {
    match (tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")) {
        (Some((_, head)), Some((_, embedding))) => {
            (head.dtype(), head.shape()) != (embedding.dtype(), embedding.shape()) || head.data() != embedding.data()
        }
        _ => false,
    }
}

/// Names of the tensors that the model does not use.
fn extra_tensors(tensors: &TensorsByName<'_>, model: &CausalLm) -> Vec<String> {
    let wanted: BTreeSet<&str> = model.parameters().specs().iter().map(|spec| spec.name.as_str()).collect();
    let is_extra = |name: &&String| {
        // Two kinds of tensors are not worth a word: a tied head that was saved a second time, and
        // rotary frequencies, which follow from the configuration.
        let is_tied_head = *name == "lm_head.weight" && model.config().tie_word_embeddings;
        !wanted.contains(name.as_str()) && !is_tied_head && !name.ends_with(".rotary_emb.inv_freq")
    };
    tensors.keys().filter(is_extra).cloned().collect()
}

/// The safetensors files of a folder, in order of their names.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let index = dir.join("model.safetensors.index.json");
    if index.exists() {
        return shards(dir, &index);
    }
    let has = |name: &str| dir.join(name).exists();
    let hint = if has("pytorch_model.bin") || has("pytorch_model.bin.index.json") {
        "not found; pytorch_model.bin is a pickle and is never read: save the model as safetensors first"
    } else if has("adapter_model.safetensors") || has("adapter_config.json") {
        "not found; the folder holds an adapter: merge it into its base model first"
    } else if has_gguf(dir) {
        "not found; GGUF files are not read: use the model's safetensors"
    } else {
        "not found, nor model.safetensors.index.json"
    };
    let source = std::io::Error::new(std::io::ErrorKind::NotFound, hint);
    Err(Error::Read { path: single, source })
}

fn has_gguf(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "gguf"))
}

/// The files that an index names.
fn shards(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, Error> {
    let json = files::json(index, FileLimit::INDEX)?;
    let unfit = |problem: String| Error::Index { path: index.to_owned(), problem };
    let weight_map = json.get("weight_map").and_then(|map| map.as_object());
    let weight_map = weight_map.ok_or_else(|| unfit("has no weight_map object".to_owned()))?;
    let mut paths = BTreeSet::new();
    for name in weight_map.values() {
        let name = name.as_str().ok_or_else(|| unfit("weight_map has a value that is not a string".to_owned()))?;
        paths.insert(shard_path(dir, name).map_err(unfit)?);
    }
    Ok(paths.into_iter().collect())
}

/// The type to hold weights in if the caller does not say: that of config.json, else that of the
/// embedding, else float32.
fn own_dtype(config: &Config, tensors: &TensorsByName<'_>, dir: &Path) -> Result<Kind, Error> {
    let of_embedding = || tensors.get("model.embed_tokens.weight").and_then(|(_, view)| kind_of(view.dtype()));
    let Some(name) = &config.dtype else { return Ok(of_embedding().unwrap_or(Kind::Float)) };
    match name.parse::<WeightDtype>() {
        Ok(dtype) => Ok(dtype.kind().or_else(of_embedding).unwrap_or(Kind::Float)),
        Err(_) => {
            let field =
                if config.raw.get("dtype").is_some_and(|value| !value.is_null()) { "dtype" } else { "torch_dtype" };
            let problem =
                format!("is \"{name}\"; float32, bfloat16 and float16 are supported: choose one with `dtype`");
            Err(Error::Config { path: dir.join("config.json"), field: field.to_owned(), problem })
        }
    }
}

#[cfg(test)]
mod tests;
