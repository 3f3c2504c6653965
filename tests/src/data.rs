//! Datasets that tests create.

use anyhow::Result;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A folder of files that become a dataset.
#[derive(Debug)]
pub struct Dataset {
    folder: PathBuf,
}

impl Dataset {
    /// An empty folder.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Adds `train.jsonl` and `test.jsonl`, with a row for each text.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn with_texts(self, train: &[String], test: &[String]) -> Result<Self> {
        self.with_rows("train.jsonl", train.iter().map(|text| json!({ "text": text })))?
            .with_rows("test.jsonl", test.iter().map(|text| json!({ "text": text })))
    }

    /// Adds a file with one JSON row per line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn with_rows(self, name: &str, rows: impl Iterator<Item = Value>) -> Result<Self> {
        let text: String = rows.map(|row| format!("{row}\n")).collect();
        self.with_file(name, text)
    }

    /// Adds any file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn with_file(self, name: &str, content: impl AsRef<[u8]>) -> Result<Self> {
        std::fs::write(self.folder.join(name), content)?;
        Ok(self)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

/// Texts of words that the tokenizers of the goldens know. Each has 6 to 20 words and its own first
/// word. Texts of the same `kind` follow the same rule from word to word.
pub fn sentences(count: usize, kind: usize) -> Vec<String> {
    const NUM_WORDS: usize = 61;
    let sentence = |index: usize| {
        let mut word = (index * 17 + kind * 5) % NUM_WORDS;
        let mut words = Vec::new();
        for position in 0..6 + (index * 7) % 15 {
            words.push(format!("w{}", word + 3));
            word = (word * (7 + kind) + 11 + position % 2) % NUM_WORDS;
        }
        words.join(" ")
    };
    (0..count).map(sentence).collect()
}
