//! A temporary folder for one test.

use crate::{Training, goldens};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A temporary folder in which a test keeps its inputs and runs. It is removed on drop.
#[derive(Debug)]
pub struct Case {
    folder: TempDir,
}

impl Case {
    /// Creates an empty folder.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where [`training`](Self::training) puts its results.
    pub fn output_dir(&self) -> PathBuf {
        self.path("out")
    }

    /// A run that writes to [`output_dir`](Self::output_dir).
    pub fn training(&self, model: &Path, dataset: &Path) -> Training {
        Training::new(model, dataset, &self.output_dir())
    }

    /// Copies a model of the goldens to the folder `model` and returns that path.
    ///
    /// # Errors
    /// When the model cannot be copied.
    pub fn copy_model(&self, architecture: &str) -> Result<PathBuf> {
        let copy = self.path("model");
        std::fs::create_dir(&copy)?;
        for entry in std::fs::read_dir(goldens::model(architecture))? {
            let entry = entry?;
            std::fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
        Ok(copy)
    }

    /// Changes keys of a JSON file.
    ///
    /// # Errors
    /// When the file is not a JSON object or cannot be written.
    pub fn edit_json(path: &Path, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
        let mut content: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        edit(content.as_object_mut().with_context(|| format!("{} is no object", path.display()))?);
        Ok(std::fs::write(path, content.to_string())?)
    }

    /// Everything in the folder now, by path: the content of a file, `None` for a folder.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn snapshot(&self) -> Result<BTreeMap<PathBuf, Option<Vec<u8>>>> {
        let mut content = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path.clone());
                    content.insert(path, None);
                } else {
                    let bytes = std::fs::read(&path)?;
                    content.insert(path, Some(bytes));
                }
            }
        }
        Ok(content)
    }
}
