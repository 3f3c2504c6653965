//! Reading a model's folder: config.json, then `model.safetensors` or the shards that
//! `model.safetensors.index.json` names.
//!
//! Every name, shape and type is checked against the headers before memory is taken for weights;
//! then tensors are copied out of the memory-mapped files one at a time.

use crate::{CausalLm, Config, Error, ModelOptions, ParameterSpec};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};
use torch_ext::MappedFile;

/// What a load found besides the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors in the files that the model has no use for.
    pub extra_tensors: Vec<String>,
    /// Whether the head was taken from the file though the configuration ties it to the embedding:
    /// the two differ.
    pub head_untied: bool,
}

impl CausalLm {
    /// Loads a model from a folder in Hugging Face's layout.
    ///
    /// # Errors
    /// Each names the file, and the field or tensor: [`Error::Read`], [`Error::Json`],
    /// [`Error::Config`], [`Error::Safetensors`], [`Error::MissingTensors`],
    /// [`Error::TensorShape`], [`Error::TensorType`]; [`Error::Torch`] when memory is lacking.
    pub fn load(dir: &Path, mut options: ModelOptions) -> Result<(Self, LoadReport), Error> {
        let mut config = Config::from_dir(dir)?;
        let generation_config = crate::generation_config::read(dir)?;
        let files = MappedFiles::open(dir)?;
        let tensors = WeightTensors::read(dir, &files)?;
        let head_untied = config.tie_word_embeddings && tensors.head_differs_from_embedding();
        if head_untied {
            config.untie();
        }
        tensors.check(&crate::layout::specs(&config))?;
        if options.dtype.is_none() {
            options.dtype = Some(own_dtype(&config, &tensors));
        }
        let mut model = Self::zeros(config, options)?;
        model.generation_config = generation_config;
        tensors.copy_into(&model)?;
        let extra_tensors = tensors.extra(&model);
        Ok((model, LoadReport { extra_tensors, head_untied }))
    }

    /// Overwrites the weights with those of another folder, say a checkpoint of the same model.
    /// Views into the weights stay valid.
    ///
    /// # Errors
    /// As [`Self::load`], less those of config.json. Nothing is overwritten unless every tensor is
    /// there and fits.
    pub fn load_weights(&mut self, dir: &Path) -> Result<(), Error> {
        let files = MappedFiles::open(dir)?;
        let tensors = WeightTensors::read(dir, &files)?;
        tensors.check(self.parameters().specs())?;
        tensors.copy_into(self)
    }
}

/// The weight files of a folder, mapped.
struct MappedFiles(Vec<(PathBuf, MappedFile)>);

impl MappedFiles {
    fn open(dir: &Path) -> Result<Self, Error> {
        let open = |path: PathBuf| MappedFile::open(&path).map(|map| (path, map));
        Ok(Self(weight_files(dir)?.into_iter().map(open).collect::<Result<_, _>>()?))
    }
}

/// The tensors in the weight files, by name.
struct WeightTensors<'a> {
    dir: &'a Path,
    tensors: BTreeMap<String, (&'a Path, TensorView<'a>)>,
}

impl<'a> WeightTensors<'a> {
    fn read(dir: &'a Path, files: &'a MappedFiles) -> Result<Self, Error> {
        let mut tensors = BTreeMap::new();
        for (path, map) in &files.0 {
            let file = SafeTensors::deserialize(map)
                .map_err(|error| Error::Safetensors { path: path.clone(), problem: error.to_string() })?;
            tensors.extend(file.tensors().into_iter().map(|(name, view)| (name, (path.as_path(), view))));
        }
        Ok(Self { dir, tensors })
    }

    /// transformers does not tie what the file holds two versions of.
    fn head_differs_from_embedding(&self) -> bool {
        match (self.tensors.get("lm_head.weight"), self.tensors.get("model.embed_tokens.weight")) {
            (Some((_, head)), Some((_, embedding))) => {
                (head.dtype(), head.shape()) != (embedding.dtype(), embedding.shape())
                    || head.data() != embedding.data()
            }
            _ => false,
        }
    }

    fn check(&self, expected: &[ParameterSpec]) -> Result<(), Error> {
        let mut missing = Vec::new();
        for spec in expected {
            let Some((path, view)) = self.tensors.get(&spec.name) else {
                missing.push(spec.name.clone());
                continue;
            };
            let fits =
                view.shape().iter().map(|size| i64::try_from(*size).unwrap_or(-1)).eq(spec.shape.iter().copied());
            let (path, name) = (path.to_path_buf(), spec.name.clone());
            if !fits {
                return Err(Error::TensorShape {
                    path,
                    name,
                    expected: spec.shape.clone(),
                    found: view.shape().to_vec(),
                });
            }
            if kind_of(view.dtype()).is_none() {
                return Err(Error::TensorType { path, name, found: format!("{:?}", view.dtype()) });
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Error::MissingTensors { path: self.dir.to_owned(), names: missing })
        }
    }

    /// Copies every tensor of a checked model into its weights.
    fn copy_into(&self, model: &CausalLm) -> Result<(), Error> {
        let parameters = model.parameters();
        for (spec, weight) in parameters.specs().iter().zip(parameters.weights()) {
            let Some((_, view)) = self.tensors.get(&spec.name) else { continue };
            let Some(kind) = kind_of(view.dtype()) else { continue };
            let tensor = Tensor::f_from_data_size(view.data(), &spec.shape, kind)?;
            weight.shallow_clone().f_copy_(&tensor)?;
        }
        Ok(())
    }

    fn extra(&self, model: &CausalLm) -> Vec<String> {
        let wanted: BTreeSet<&str> = model.parameters().specs().iter().map(|spec| spec.name.as_str()).collect();
        let is_extra = |name: &&String| {
            // A tied head is often saved again, and rotary frequencies follow from the
            // configuration.
            let is_tied_head = *name == "lm_head.weight" && model.config().tie_word_embeddings;
            !wanted.contains(name.as_str()) && !is_tied_head && !name.ends_with(".rotary_emb.inv_freq")
        };
        self.tensors.keys().filter(is_extra).cloned().collect()
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

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F16 => Some(Kind::Half),
        _ => None,
    }
}

/// The type to hold weights in when the caller leaves it open: what config.json says, else that of
/// the embedding, else float32.
fn own_dtype(config: &Config, tensors: &WeightTensors<'_>) -> Kind {
    match config.dtype.as_deref() {
        Some("bfloat16") => return Kind::BFloat16,
        Some("float16") => return Kind::Half,
        Some("float32") => return Kind::Float,
        _ => {}
    }
    let embedding = tensors.tensors.get("model.embed_tokens.weight");
    embedding.and_then(|(_, view)| kind_of(view.dtype())).unwrap_or(Kind::Float)
}
