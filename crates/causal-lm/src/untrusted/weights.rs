//! Checks of a folder's index and of the tensors in its weight files.

use crate::{Error, ParameterSpec};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Kind;

/// The tensors of a folder's weight files by name, each with its file.
pub(crate) type TensorsByName<'a> = BTreeMap<String, (&'a Path, TensorView<'a>)>;

/// A tensor of a weight file, its type and its file.
#[derive(Debug)]
pub(crate) struct FileTensor<'t, 'a> {
    pub(crate) view: &'t TensorView<'a>,
    pub(crate) kind: Kind,
    pub(crate) path: &'a Path,
}

/// The path of a file that an index in `dir` names, or what is wrong with the name. The file must
/// be in that folder.
pub(crate) fn shard_path(dir: &Path, name: &str) -> Result<PathBuf, String> {
    if name.is_empty() || name.contains(['/', '\\']) || name == ".." {
        return Err(format!("weight_map names {name:?}, which is not a file of this folder"));
    }
    Ok(dir.join(name))
}

/// The type of weights that a safetensors type is read as.
pub(crate) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F16 => Some(Kind::Half),
        _ => None,
    }
}

/// Whether a type is one that weights are quantised to.
fn is_quantised(dtype: Dtype) -> bool {
    dtype.bitsize() <= 8 && dtype != Dtype::BOOL
}

/// What is wrong with the header of a safetensors file, in plain words.
pub(crate) fn header_problem(error: &SafeTensorError) -> String {
    let problem = match error {
        SafeTensorError::HeaderTooSmall => "it ends before its header",
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            "its first 8 bytes give a header that is longer than the file or than 100 MB"
        }
        SafeTensorError::InvalidHeader(_) => "its header is not UTF-8 text",
        SafeTensorError::InvalidHeaderDeserialization(_) => "its header is not a JSON list of tensors",
        SafeTensorError::MetadataIncompleteBuffer => {
            "its tensors do not fill it to its end: the file is cut off or too long"
        }
        SafeTensorError::InvalidOffset(name) => return format!("tensor {name} overlaps another one or leaves a gap"),
        SafeTensorError::TensorInvalidInfo => "a tensor's place does not fit its shape and type",
        SafeTensorError::ValidationOverflow => "a tensor's size is beyond all bounds",
        other => return other.to_string(),
    };
    problem.to_owned()
}

/// The tensor and its type for each of `specs`, in their order. All have the shape and a type that
/// the model calls for, so nothing can fail later because of the file.
pub(crate) fn matching<'t, 'a>(
    tensors: &'t TensorsByName<'a>,
    specs: &[ParameterSpec],
    dir: &Path,
) -> Result<Vec<FileTensor<'t, 'a>>, Error> {
    let mut found = Vec::with_capacity(specs.len());
    let mut missing = Vec::new();
    for spec in specs {
        let Some((path, view)) = tensors.get(&spec.name) else {
            missing.push(spec.name.clone());
            continue;
        };
        let has_shape = view.shape().iter().map(|size| *size as u64).eq(spec.shape.iter().map(|size| *size as u64));
        if !has_shape {
            let (expected, found) = (spec.shape.clone(), view.shape().to_vec());
            return Err(Error::TensorShape { path: path.to_path_buf(), name: spec.name.clone(), expected, found });
        }
        let Some(kind) = kind_of(view.dtype()) else {
            let quantised = if is_quantised(view.dtype()) { ", so the weights are quantised" } else { "" };
            let found = format!("{:?}{quantised}", view.dtype());
            return Err(Error::TensorType { path: path.to_path_buf(), name: spec.name.clone(), found });
        };
        found.push(FileTensor { view, kind, path });
    }
    match missing.is_empty() {
        true => Ok(found),
        false => Err(Error::MissingTensors { path: dir.to_owned(), names: missing }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParameterKind;

    #[test]
    fn an_index_names_files_of_its_own_folder() {
        let dir = Path::new("model");
        assert_eq!(shard_path(dir, "a.safetensors").unwrap(), Path::new("model/a.safetensors"));
        for name in ["", "..", "../a", "/a", "a/b", "a\\b"] {
            assert!(shard_path(dir, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn tensors_must_be_there_with_the_right_shape_and_a_type_of_weights() {
        let spec = |name: &str, shape: &[i64]| ParameterSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind: ParameterKind::Linear,
        };
        let file = Path::new("model/model.safetensors");
        let bytes = [0; 48];
        let view = |dtype, shape: &[usize], length| TensorView::new(dtype, shape.to_vec(), &bytes[..length]).unwrap();
        let tensors = TensorsByName::from([
            ("a".to_owned(), (file, view(Dtype::F32, &[3, 4], 48))),
            ("b".to_owned(), (file, view(Dtype::BF16, &[5], 10))),
            ("c".to_owned(), (file, view(Dtype::I64, &[6], 48))),
        ]);
        let matching = |specs: &[ParameterSpec]| matching(&tensors, specs, Path::new("model"));
        let found = matching(&[spec("b", &[5]), spec("a", &[3, 4])]).unwrap();
        assert_eq!(found.iter().map(|tensor| tensor.kind).collect::<Vec<_>>(), [Kind::BFloat16, Kind::Float]);
        for (specs, expected) in [
            ([spec("a", &[4, 3]), spec("b", &[5])], "tensor a has shape [3, 4], config.json calls for [4, 3]"),
            ([spec("a", &[12]), spec("b", &[5])], "tensor a has shape [3, 4], config.json calls for [12]"),
            ([spec("a", &[3, 4]), spec("c", &[6])], "tensor c is I64; float32, bfloat16 and float16 are supported"),
            ([spec("a", &[3, 4]), spec("d", &[6])], "1 of the model's tensors missing: d"),
        ] {
            let message = matching(&specs).unwrap_err().to_string();
            assert!(message.ends_with(expected), "{message}");
        }
    }
}
