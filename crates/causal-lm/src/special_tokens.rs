//! The token ids in config.json and generation_config.json, brought in line with a tokenizer before
//! they are saved.
//!
//! `generate` stops at the end tokens of generation_config.json. A model that was trained to end
//! its turns with another token than its folder names would never stop.

use crate::{CausalLm, generation_config};
use serde_json::{Map, Value, json};

/// The ids that a tokenizer gives to the roles of special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTokenIds {
    /// Begins a text. `None`: the tokenizer has no such token.
    pub bos: Option<u32>,
    /// Ends a text or a turn.
    pub eos: u32,
    /// Fills up shorter rows.
    pub pad: u32,
}

const BOS: &str = "bos_token_id";
const EOS: &str = "eos_token_id";
const PAD: &str = "pad_token_id";

impl CausalLm {
    /// Makes `id` the end token, as TRL does with the one that its option `eos_token` names: it is
    /// that of config.json, and generation_config.json gets it in front of its own. Only what is
    /// saved changes.
    pub fn set_eos_token_id(&mut self, id: u32) {
        let (config, generation) = self.files_to_change();
        let mut ids = end_tokens(generation);
        if !ids.contains(&json!(id)) {
            ids.insert(0, json!(id));
            generation.insert(EOS.to_owned(), Value::Array(ids));
        }
        config.insert(EOS.to_owned(), json!(id));
    }

    /// Brings the token ids of config.json and generation_config.json in line with a tokenizer, as
    /// the trainer of transformers 5.17 does before it trains. An end token that differs in either
    /// file is put in front of those of generation_config.json, which all still end a text. Only
    /// what is saved changes.
    pub fn align_special_tokens(&mut self, ids: SpecialTokenIds) {
        let (config, generation) = self.files_to_change();
        let eos = json!(ids.eos);
        let mut end_tokens = end_tokens(generation);
        if config.get(EOS) != Some(&eos) || !end_tokens.contains(&eos) {
            config.insert(EOS.to_owned(), eos.clone());
            end_tokens.insert(0, eos);
        }
        generation.insert(EOS.to_owned(), Value::Array(end_tokens));

        for (name, id) in [(BOS, ids.bos), (PAD, Some(ids.pad))] {
            config.insert(name.to_owned(), json!(id));
            match id {
                Some(id) => generation.insert(name.to_owned(), json!(id)),
                None => generation.shift_remove(name),
            };
        }
    }

    /// Both files. Without a generation_config.json, one is made from config.json as it is now.
    fn files_to_change(&mut self) -> (&mut Map<String, Value>, &mut Map<String, Value>) {
        let config = &mut self.config.raw;
        let generation = self.generation_config.get_or_insert_with(|| generation_config::of_model(config));
        (config, generation)
    }
}

fn end_tokens(generation: &Map<String, Value>) -> Vec<Value> {
    match generation.get(EOS) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) => ids.clone(),
        Some(id) => vec![id.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, ModelOptions};

    #[derive(serde::Deserialize)]
    struct Case {
        config: Map<String, Value>,
        generation_config: Option<Map<String, Value>>,
        tokenizer: Tokenizer,
        eos_is_chosen: bool,
        saved: (Value, Value),
    }

    #[derive(serde::Deserialize)]
    struct Tokenizer {
        bos: Option<u32>,
        eos: u32,
        pad: u32,
    }

    #[test]
    fn saved_ids_are_those_that_trl_saves() {
        let golden: Vec<Case> = serde_json::from_str(include_str!("../tests/goldens/special_tokens.json")).unwrap();
        for (number, case) in golden.into_iter().enumerate() {
            let mut file = json!({
                "model_type": "llama", "vocab_size": 12, "hidden_size": 4, "intermediate_size": 4,
                "num_hidden_layers": 1, "num_attention_heads": 1
            });
            file.as_object_mut().unwrap().extend(case.config.clone());
            let config = Config::from_json(file, "config.json".as_ref()).unwrap();
            let mut model = CausalLm::zeros(config, ModelOptions::default()).unwrap();
            model.generation_config = case.generation_config.clone();
            let Tokenizer { bos, eos, pad } = case.tokenizer;
            if case.eos_is_chosen {
                model.set_eos_token_id(eos);
            }
            model.align_special_tokens(SpecialTokenIds { bos, eos, pad });
            let folder = tempfile::tempdir().unwrap();
            model.save(folder.path()).unwrap();
            let ids = |name: &str| {
                let text = std::fs::read(folder.path().join(name)).unwrap();
                let file: Value = serde_json::from_slice(&text).unwrap();
                json!({BOS: file[BOS], EOS: file[EOS], PAD: file[PAD]})
            };
            let found = (ids("config.json"), ids("generation_config.json"));
            assert_eq!(found, case.saved, "case {number}: {:?} {:?}", case.config, case.generation_config);
        }
    }
}
