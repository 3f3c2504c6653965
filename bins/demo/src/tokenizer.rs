//! A byte-level BPE tokenizer like that of Qwen2, trained on the demo's text.

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, json};
use std::fs;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, TokenizerBuilder};

/// Number of tokens, including the special ones.
const VOCAB_SIZE: usize = 2048;

const END_OF_TEXT: &str = "<|endoftext|>";
const TURN_START: &str = "<|im_start|>";
const TURN_END: &str = "<|im_end|>";
const SPECIAL: [&str; 3] = [END_OF_TEXT, TURN_START, TURN_END];

/// The pattern of Qwen2: a word with the space before it, a single digit, or a run of other
/// characters. Single digits make sums learnable.
const WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const CHAT_TEMPLATE: &str = "\
{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// What the configuration of the model needs to know about the tokenizer.
pub struct TokenIds {
    pub vocab_size: usize,
    pub turn_end: u32,
}

/// Trains a tokenizer on `rows` and writes tokenizer.json and tokenizer_config.json into `folder`.
pub fn write(rows: &[String], folder: &Path) -> Result<TokenIds> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCAB_SIZE - SPECIAL.len())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let byte_level = ByteLevel::new(false, false, false);
    let words = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Isolated, false)
        .map_err(|error| anyhow!(error))?;
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(Some(NFC))
        .with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(words),
            PreTokenizerWrapper::ByteLevel(byte_level),
        ])))
        .with_post_processor(Some(byte_level))
        .with_decoder(Some(byte_level))
        .build()
        .map_err(|error| anyhow!(error))?;
    tokenizer.train(&mut trainer, rows.iter()).map_err(|error| anyhow!(error))?;
    // The special tokens follow the learned ones, as in Qwen2's files.
    tokenizer.add_special_tokens(SPECIAL.map(|token| AddedToken::from(token, true))).map_err(|error| anyhow!(error))?;
    tokenizer.save(folder.join("tokenizer.json"), true).map_err(|error| anyhow!(error))?;

    let id = |token| tokenizer.token_to_id(token).with_context(|| format!("{token} is not in the vocabulary"));
    let mut decoder = Map::new();
    for token in SPECIAL {
        let entry = json!({"content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true});
        decoder.insert(id(token)?.to_string(), entry);
    }
    let config = json!({
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": [TURN_START, TURN_END],
        "bos_token": null,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": TURN_END,
        "errors": "replace",
        "model_max_length": crate::model::MAX_POSITIONS,
        "pad_token": END_OF_TEXT,
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
    });
    let path = folder.join("tokenizer_config.json");
    fs::write(&path, format!("{config:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(TokenIds { vocab_size: tokenizer.get_vocab_size(true), turn_end: id(TURN_END)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn any_text_comes_back_and_special_tokens_are_one_token() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let rows = crate::corpus::write(80, 8, &mut Random::new(3)).train;
        let ids = write(&rows, folder.path())?;
        let tokenizer =
            tokenizers::Tokenizer::from_file(folder.path().join("tokenizer.json")).map_err(|error| anyhow!(error))?;
        for text in [rows[0].as_str(), "未见过的字：龘 🙂\n\t 1234", "naïve café's"] {
            let encoding = tokenizer.encode(text, false).map_err(|error| anyhow!(error))?;
            assert_eq!(tokenizer.decode(encoding.get_ids(), false).map_err(|error| anyhow!(error))?, text);
        }
        let encoding = tokenizer.encode("<|im_end|>", false).map_err(|error| anyhow!(error))?;
        assert_eq!(encoding.get_ids(), [ids.turn_end]);
        let digits = tokenizer.encode("1234", false).map_err(|error| anyhow!(error))?;
        assert_eq!(digits.len(), 4);
        assert!(ids.vocab_size <= VOCAB_SIZE);
        Ok(())
    }
}
