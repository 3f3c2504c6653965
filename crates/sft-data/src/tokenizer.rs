//! A model's tokenizer and its chat template.
//!
//! [`ChatTokenizer::from_dir`] reads `tokenizer.json` and the files in the same folder:
//! `tokenizer_config.json` and `special_tokens_map.json` name the special tokens and hold the chat
//! templates, `chat_template.jinja` and `additional_chat_templates` override those, and
//! `generation_config.json` or `config.json` name EOS if the tokenizer does not. As in transformers
//! 5, only `tokenizer.json` decides which special tokens are added around a text.
//!
//! The normalizer, the pre-tokenizer and the model are those of `tokenizer.json`, whatever
//! `tokenizer_class` says. (For the class `LlamaTokenizer`, transformers 5 makes its own: a text
//! that begins with a space gets no `▁` before it, and byte-level tokenizers give other tokens.)

mod assistant;
mod chat_template;
mod chat_templates;
mod files;
mod special;

use crate::untrusted::panics::catch_in_tokenizers;
use crate::{ChatContext, Error};
use assistant::Chat;
pub(crate) use assistant::{AssistantTurn, Rendered, thinking_blocks};
use chat_template::ChatTemplate;
pub(crate) use chat_template::TextTemplate;
use chat_templates::ChatTemplates;
pub use files::TOKENIZER_FILES;
use files::TokenizerFiles;
use serde_json::Value;
use special::SpecialTokens;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::{Encoding, Tokenizer};

/// The tokenizer of a model folder. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    dir: PathBuf,
    tokenizer: Arc<Tokenizer>,
    special: Arc<SpecialTokens>,
    templates: ChatTemplates,
    files: Arc<TokenizerFiles>,
    eos_token_id: u32,
    pad_token_id: u32,
}

/// Settings that override the tokenizer's files. All are unset by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerOptions {
    /// The end-of-sequence token, in place of the tokenizer's own. It must be in the vocabulary.
    pub eos_token: Option<String>,
    /// A file with a Jinja chat template, in place of all that the tokenizer has.
    pub chat_template_path: Option<PathBuf>,
}

/// Whether to add the special tokens that the tokenizer puts around a text: BOS for Llama, none for
/// Qwen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddSpecialTokens {
    /// Add them. This is right for plain text.
    Yes,
    /// Add none. This is right for the output of a chat template, which has them already.
    No,
}

/// Whether a rendered chat ends with the start of the assistant's next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddGenerationPrompt {
    /// It does. This is right for sampling.
    Yes,
    /// It does not. This is right for training.
    No,
}

/// Whether decoding writes special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialTokensInText {
    /// Write them.
    Keep,
    /// Leave them out.
    Skip,
}

impl ChatTokenizer {
    /// Loads `tokenizer.json` and the files in the same folder.
    ///
    /// # Errors
    /// If `tokenizer.json` is missing or malformed, another of the files is malformed, or no file
    /// names an EOS token that is in the vocabulary.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        Self::load(dir, &TokenizerOptions::default())
    }

    /// Like [`from_dir`](Self::from_dir), with settings that override the files.
    ///
    /// # Errors
    /// As for `from_dir`, and if `eos_token` is not in the vocabulary or `chat_template_path`
    /// cannot be read.
    pub fn load(dir: &Path, options: &TokenizerOptions) -> Result<Self, Error> {
        let mut files = TokenizerFiles::read(dir)?;
        let mut tokenizer = files.tokenizer()?;
        let mut special = SpecialTokens::from_files(&files)?;
        if let Some(eos_token) = &options.eos_token {
            if tokenizer.token_to_id(eos_token).is_none() {
                let fix = format!("a token of the vocabulary in {}", dir.display());
                return Err(Error::config("eos_token", format!("{eos_token:?}"), fix));
            }
            special.set_eos_token(eos_token);
            files.set_token("eos_token", eos_token)?;
        }
        special.add_to(&mut tokenizer)?;
        let (eos_token, eos_token_id) = special.resolve_eos(&files, &tokenizer)?;
        special.set_eos_token(&eos_token);
        if options.eos_token.is_none() {
            special::check_generation_config(&files, &eos_token, eos_token_id)?;
        }
        let pad_token_id = special.get("pad_token").and_then(|token| tokenizer.token_to_id(token));
        if special.get("pad_token").is_none() {
            // Without a pad token in the saved files, transformers may add one that the model has
            // no embedding for.
            files.set_token("pad_token", &eos_token)?;
        }

        if let Some(path) = &options.chat_template_path {
            files.override_chat_template(path)?;
        }
        let templates = ChatTemplates::compile(files.chat_templates()?)?;
        Ok(Self {
            dir: dir.to_owned(),
            tokenizer: Arc::new(tokenizer),
            special: Arc::new(special),
            templates,
            files: Arc::new(files),
            eos_token_id,
            pad_token_id: pad_token_id.unwrap_or(eos_token_id),
        })
    }

    /// Returns the token ids of a text. Special tokens in the text become their ids.
    ///
    /// A BPE tokenizer caches up to 10,000 words for the calling thread until that thread ends,
    /// even if the tokenizer is dropped earlier. A program that loads many tokenizers should use
    /// each on a thread of its own, as [`prepare`](crate::prepare()) does.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text, for example because it has no unknown token.
    pub fn encode(&self, text: &str, special: AddSpecialTokens) -> Result<Vec<u32>, Error> {
        let encoding = catch_in_tokenizers(|| self.tokenizer.encode_fast(text, special == AddSpecialTokens::Yes))
            .map_err(|source| Error::Tokenize { what: "a text".to_owned(), source })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns the text of token ids. Ids beyond the vocabulary are left out.
    ///
    /// # Errors
    /// If the decoder fails.
    pub fn decode(&self, ids: &[u32], special: SpecialTokensInText) -> Result<String, Error> {
        catch_in_tokenizers(|| self.tokenizer.decode(ids, special == SpecialTokensInText::Skip))
            .map_err(|source| Error::Tokenize { what: format!("{} ids", ids.len()), source })
    }

    /// Renders a chat with the chat template. Encode the result with [`AddSpecialTokens::No`].
    ///
    /// # Errors
    /// If there is no chat template, or if it refuses the messages.
    pub fn apply_chat_template(&self, messages: &[Value], prompt: AddGenerationPrompt) -> Result<String, Error> {
        self.render(messages, &ChatContext::default(), prompt)
    }

    /// Whether there is a chat template.
    pub fn has_chat_template(&self) -> bool {
        !self.templates.is_empty()
    }

    /// The end-of-sequence token.
    pub fn eos_token(&self) -> &str {
        self.special.get("eos_token").unwrap_or_default()
    }

    /// The id of the end-of-sequence token.
    pub fn eos_token_id(&self) -> u32 {
        self.eos_token_id
    }

    /// The id of the token that begins a text, if the tokenizer names one.
    pub fn bos_token_id(&self) -> Option<u32> {
        self.special.get("bos_token").and_then(|token| self.tokenizer.token_to_id(token))
    }

    /// The id that pads rows on the right: the tokenizer's own pad token, or EOS if it has none.
    /// Padding never counts in the loss, so EOS is learned even if it is also the pad token.
    pub fn pad_token_id(&self) -> u32 {
        self.pad_token_id
    }

    /// Number of token ids, including added tokens. A model's embedding has at least as many rows.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Writes the tokenizer's files into `dir`. They are byte for byte as they were when they were
    /// loaded, except for what [`TokenizerOptions`] changed. If the tokenizer has no pad token, EOS
    /// is written as its pad token.
    ///
    /// # Errors
    /// If the folder cannot be created or written to.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        self.files.write(dir)
    }

    /// The files that [`save`](Self::save) writes: their paths relative to the folder, and their
    /// contents.
    pub fn files(&self) -> &[(PathBuf, Vec<u8>)] {
        self.files.contents()
    }

    /// Like [`encode`](Self::encode), but also returns the range of bytes that each token stands
    /// for.
    pub(crate) fn encode_with_offsets(&self, text: &str, special: AddSpecialTokens) -> Result<Encoding, Error> {
        catch_in_tokenizers(|| self.tokenizer.encode(text, special == AddSpecialTokens::Yes))
            .map_err(|source| Error::Tokenize { what: "a conversation".to_owned(), source })
    }

    /// Whether a token is a special one, such as EOS.
    pub fn is_special(&self, id: u32) -> bool {
        let is_special = |token: &tokenizers::AddedToken| token.special;
        id == self.eos_token_id
            || self.tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(is_special)
    }

    pub(crate) fn render(
        &self,
        messages: &[Value],
        context: &ChatContext,
        prompt: AddGenerationPrompt,
    ) -> Result<String, Error> {
        self.chat_template(context)?.render(messages, context, &self.special, prompt)
    }

    /// Renders a chat, and returns which of its bytes the assistant says.
    pub(crate) fn render_with_turns(&self, messages: &[Value], context: &ChatContext) -> Result<Rendered, Error> {
        let template = self.chat_template(context)?;
        assistant::render_with_turns(&Chat {
            template,
            messages,
            context,
            special: &self.special,
            tokenizer: &self.tokenizer,
        })
    }

    fn chat_template(&self, context: &ChatContext) -> Result<&ChatTemplate, Error> {
        self.templates.choose(context).map_err(|names| match names.as_slice() {
            [] => Error::NoChatTemplate { dir: self.dir.clone() },
            names => Error::Tokenizer {
                path: self.dir.clone(),
                problem: format!(
                    "the chat templates are named {}, and none `default`: name a file with `chat_template_path`",
                    names.join(", ")
                ),
            },
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
