//! Keeps the output of a run out of the folders that it reads.

use crate::{Error, Result};
use std::path::Path;

/// A folder that a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputDir<'a> {
    /// What is read, as it is called in the error: `"model"`, `"dataset"`.
    pub what: &'static str,
    /// The folder. It need not exist.
    pub path: &'a Path,
}

/// Checks that `output_dir` is none of the `inputs`, however the paths are spelled. A model written
/// into its own folder would replace the original, and result files in the folder of a dataset
/// would be read as rows by the next run. A path that does not exist is no conflict.
///
/// # Errors
/// [`Error::OutputDirIsInput`] for the first input that is.
pub fn check_inputs(output_dir: &Path, inputs: &[InputDir<'_>]) -> Result<()> {
    let Ok(output) = output_dir.canonicalize() else { return Ok(()) };
    let conflict = inputs.iter().find(|input| input.path.canonicalize().is_ok_and(|path| path == output));
    conflict.map_or(Ok(()), |input| Err(Error::OutputDirIsInput { path: output_dir.to_owned(), input: input.what }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_folder_is_refused_as_output_in_any_spelling() {
        let dir = tempfile::tempdir().unwrap();
        let (model, data) = (dir.path().join("model"), dir.path().join("data"));
        for folder in [&model, &data] {
            std::fs::create_dir(folder).unwrap();
        }
        let inputs = [InputDir { what: "model", path: &model }, InputDir { what: "dataset", path: &data }];
        check_inputs(&dir.path().join("out"), &inputs).unwrap();
        check_inputs(dir.path(), &inputs).unwrap();
        check_inputs(&model, &[InputDir { what: "dataset", path: Path::new("owner/name") }]).unwrap();
        let message = check_inputs(&model.join("../data/."), &inputs).unwrap_err().to_string();
        assert!(message.ends_with("data/. is the folder of the dataset; choose another output folder"), "{message}");
        assert!(check_inputs(&model, &inputs).unwrap_err().to_string().contains("the folder of the model"));
    }
}
