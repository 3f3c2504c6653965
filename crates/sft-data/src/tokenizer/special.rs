//! Special tokens and their roles.

use super::files::TokenizerFiles;
use crate::Error;
use crate::untrusted::panics::catch_in_tokenizers;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use tokenizers::{AddedToken, Tokenizer};
use tracing::warn;

/// The roles that transformers knows. Each is a variable for chat templates.
const ROLES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

const GENERATION_CONFIG: &str = "generation_config.json";

/// The special tokens, with and without a role.
#[derive(Debug, Clone)]
pub(super) struct SpecialTokens {
    roles: Map<String, Value>,
    /// The tokens with a role and the others, with the flags that the files give them.
    named: Vec<AddedToken>,
    /// Tokens that `tokenizer_config.json` lists with their ids.
    listed: Vec<AddedToken>,
}

impl SpecialTokens {
    pub(super) fn from_files(files: &TokenizerFiles) -> Result<Self, Error> {
        let config = files.config();
        let mut listed = Vec::new();
        let mut merged = config.clone();
        if let Some(Value::Object(by_id)) = config.get("added_tokens_decoder") {
            let mut by_id: Vec<(u64, &Value)> =
                by_id.iter().filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect();
            by_id.sort_by_key(|&(id, _)| id);
            listed.extend(by_id.into_iter().filter_map(|(_, token)| added_token(token)));
        } else if let Some(map) = files.json("special_tokens_map.json")? {
            // As in transformers, the map is used only if the config does not list its tokens.
            merged.extend(map);
        }
        let roles: Map<String, Value> = ROLES
            .iter()
            .filter_map(|&role| Some((role.to_owned(), Value::from(content(merged.get(role)?)?))))
            .collect();
        let extra = ["additional_special_tokens", "extra_special_tokens"]
            .iter()
            .filter_map(|&key| merged.get(key))
            .flat_map(|tokens| match tokens {
                Value::Array(tokens) => tokens.iter().collect::<Vec<_>>(),
                Value::Object(tokens) => tokens.values().collect(),
                _ => Vec::new(),
            });
        let named = ROLES.iter().filter_map(|&role| merged.get(role)).chain(extra).filter_map(special_token).collect();
        for token in &mut listed {
            // As in transformers, a token with a role is special whatever its flag says.
            token.special |= roles.values().any(|role| role.as_str() == Some(&token.content));
        }
        Ok(Self { roles, named, listed })
    }

    pub(super) fn get(&self, role: &str) -> Option<&str> {
        self.roles.get(role)?.as_str()
    }

    pub(super) fn set_eos_token(&mut self, token: &str) {
        self.roles.insert("eos_token".to_owned(), Value::from(token));
    }

    /// Roles and tokens, as a template gets them.
    pub(super) fn roles(&self) -> &Map<String, Value> {
        &self.roles
    }

    /// Adds every special token to the tokenizer as a token that is never split, even if
    /// `tokenizer.json` has it as an ordinary entry of the vocabulary or does not have it.
    pub(super) fn add_to(&self, tokenizer: &mut Tokenizer) -> Result<(), Error> {
        let known = tokenizer.get_added_tokens_decoder();
        let known: HashMap<&str, &AddedToken> = known.values().map(|token| (token.content.as_str(), token)).collect();
        // As in transformers, the flags in `tokenizer_config.json` win over those in
        // `tokenizer.json`.
        let listed: Vec<_> =
            self.listed.iter().filter(|&token| known.get(token.content.as_str()) != Some(&token)).cloned().collect();
        let listed_names: HashSet<&str> = self.listed.iter().map(|token| token.content.as_str()).collect();
        let is_new = |content: &str| !known.contains_key(content) && !listed_names.contains(content);
        let named: Vec<_> = self.named.iter().filter(|token| is_new(&token.content)).cloned().collect();
        let refused = |source| Error::Tokenize { what: "its own special tokens".to_owned(), source };
        let add = || {
            tokenizer.add_tokens(listed)?;
            tokenizer.add_special_tokens(named)
        };
        catch_in_tokenizers(add).map(|_| ()).map_err(refused)
    }

    /// The EOS token and its id. If the tokenizer names none, they are taken from the model's
    /// configuration.
    pub(super) fn resolve_eos(&self, files: &TokenizerFiles, tokenizer: &Tokenizer) -> Result<(String, u32), Error> {
        if let Some(token) = self.get("eos_token")
            && let Some(id) = tokenizer.token_to_id(token)
        {
            return Ok((token.to_owned(), id));
        }
        for name in [GENERATION_CONFIG, "config.json"] {
            let Some(file) = files.json(name)? else { continue };
            if let Some(&id) = eos_ids(&file).first()
                && let Some(token) = tokenizer.id_to_token(id)
            {
                return Ok((token, id));
            }
        }
        let problem = "no end-of-sequence token in tokenizer_config.json: name one with `eos_token`".to_owned();
        Err(Error::Tokenizer { path: files.dir().to_owned(), problem })
    }
}

/// Warns if a model that is loaded for sampling would not stop at the token that it learns to end
/// with.
pub(super) fn check_generation_config(files: &TokenizerFiles, eos_token: &str, eos_id: u32) -> Result<(), Error> {
    let Some(file) = files.json(GENERATION_CONFIG)? else { return Ok(()) };
    let ids = eos_ids(&file);
    if !ids.is_empty() && !ids.contains(&eos_id) {
        let path = files.dir().join(GENERATION_CONFIG);
        warn!(
            "{}: eos_token_id is {ids:?}, but the tokenizer's end-of-sequence token is {eos_token:?} ({eos_id}), which \
             is what rows end with: with these settings, generation does not end there",
            path.display()
        );
    }
    Ok(())
}

/// The ids in `eos_token_id`, which is a number or a list.
fn eos_ids(file: &Map<String, Value>) -> Vec<u32> {
    let ids = match file.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.as_slice(),
        Some(id) => std::slice::from_ref(id),
        None => &[],
    };
    ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}

/// Missing fields have the defaults of the Python class.
fn added_token(token: &Value) -> Option<AddedToken> {
    let is_on = |field: &str| token.get(field).and_then(Value::as_bool);
    let special = is_on("special").unwrap_or(false);
    let mut added = AddedToken::from(content(token)?, special)
        .single_word(is_on("single_word").unwrap_or(false))
        .lstrip(is_on("lstrip").unwrap_or(false))
        .rstrip(is_on("rstrip").unwrap_or(false));
    added.normalized = is_on("normalized").unwrap_or(!special);
    Some(added)
}

/// A token that is special by its place in the file.
fn special_token(token: &Value) -> Option<AddedToken> {
    let mut token = token.clone();
    if let Value::Object(fields) = &mut token {
        fields.insert("special".to_owned(), Value::Bool(true));
        return added_token(&token);
    }
    Some(AddedToken::from(content(&token)?, true))
}

/// A token is written as a string or as an object with `content`.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
