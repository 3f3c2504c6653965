//! A tokenizer and its chat template.
use std::path::Path;

use serde_json::Value;

use crate::Error;

/// The tokenizer of a model folder.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {}

/// Whether to add the special tokens that the tokenizer puts around a text (a BOS for Llama, nothing for Qwen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddSpecialTokens {
    /// Add them, as for plain text.
    Yes,
    /// Do not, as for text out of a chat template, which has them already.
    No,
}

/// Whether the rendered chat ends with the opening of the assistant's next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddGenerationPrompt {
    /// It does, for sampling.
    Yes,
    /// It does not, for training.
    No,
}

/// What decoding does with special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokensInText {
    /// Write them out.
    Keep,
    /// Leave them out.
    Skip,
}

impl ChatTokenizer {
    /// Loads `tokenizer.json` and the files beside it.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        Err(Error::Tokenizer { path: dir.to_owned(), problem: "cannot be loaded yet".to_owned() })
    }

    /// The same tokenizer with another end-of-sequence token.
    pub fn with_eos_token(self, _token: &str) -> Result<Self, Error> {
        Ok(self)
    }

    /// Token ids of a text.
    pub fn encode(&self, _text: &str, _special: AddSpecialTokens) -> Result<Vec<u32>, Error> {
        Ok(Vec::new())
    }

    /// Text of token ids.
    pub fn decode(&self, _ids: &[u32], _special: SpecialTokensInText) -> Result<String, Error> {
        Ok(String::new())
    }

    /// A chat in the words of the model's template.
    pub fn apply_chat_template(&self, _messages: &[Value], _prompt: AddGenerationPrompt) -> Result<String, Error> {
        Ok(String::new())
    }

    /// The end-of-sequence token.
    pub fn eos_token(&self) -> &str {
        ""
    }

    /// Its id.
    pub fn eos_token_id(&self) -> u32 {
        0
    }

    /// Id that fills the right of padded rows: the tokenizer's own pad token, or EOS if it has none.
    pub fn pad_token_id(&self) -> u32 {
        0
    }

    /// Number of token ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        0
    }

    /// Writes the tokenizer's own files into `dir`, byte for byte.
    pub fn save(&self, _dir: &Path) -> Result<(), Error> {
        Ok(())
    }
}
