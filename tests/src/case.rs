//! A folder of a test's own.

use crate::{Training, goldens};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A temporary folder in which a test keeps inputs and runs; gone when dropped.
#[derive(Debug)]
pub struct Case {
    folder: TempDir,
}

impl Case {
    /// An empty one.
    ///
    /// # Errors
    /// When the system gives no temporary folder.
    pub fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()? })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where [`training`](Self::training) puts its results.
    pub fn output_dir(&self) -> PathBuf {
        self.path("out")
    }

    /// A run into [`output_dir`](Self::output_dir).
    pub fn training(&self, model: &Path, dataset: &Path) -> Training {
        Training::new(model, dataset, &self.output_dir())
    }

    /// A copy, in `model`, of a model of the goldens.
    ///
    /// # Errors
    /// When it cannot be copied.
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
    /// When it is no JSON object or cannot be written.
    pub fn edit_json(path: &Path, edit: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
        let mut content: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        edit(content.as_object_mut().with_context(|| format!("{} is no object", path.display()))?);
        Ok(std::fs::write(path, content.to_string())?)
    }

    /// All that is in the folder now, by path: files' contents, and nothing for folders.
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
