//! config.json: what the model is. It mirrors transformers' `Qwen2Config`, `LlamaConfig` and
//! `MistralConfig`, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`)
//! and of 5 (`rope_parameters`, `dtype`).

mod fields;
mod rope;

pub use rope::{RopeParameters, RopeScaling};

use crate::{Error, untrusted};
use fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};
use std::path::Path;

/// The supported decoder families, by the names of `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Qwen1.5, Qwen2 and Qwen2.5 (arXiv 2407.10671): biases on q, k and v.
    Qwen2,
    /// Llama 2 and 3 (arXiv 2307.09288, 2407.21783), and models with the same layout such as
    /// SmolLM2.
    Llama,
    /// Mistral 7B (arXiv 2310.06825), with its sliding window off.
    Mistral,
}

derive_display_from_serialize!(Family);
derive_fromstr_from_deserialize!(Family);

/// Shape and hyperparameters of a decoder. Absent fields have the defaults of transformers 5.17.
#[derive(Debug, Clone)]
pub struct Config {
    /// Decoder family; `model_type` in the file.
    pub family: Family,
    /// Rows of the embedding, `v`.
    pub vocab_size: i64,
    /// Width of the residual stream, `d`.
    pub hidden_size: i64,
    /// Width inside the MLP, `f`.
    pub intermediate_size: i64,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads, `h`.
    pub num_attention_heads: i64,
    /// Key and value heads, `g`; `h` is a multiple of it. Default: `h`.
    pub num_key_value_heads: i64,
    /// Size of one head, `k`. Default: `d / h`.
    pub head_dim: i64,
    /// Added to the mean square in RMSNorm. Default: 1e-6.
    pub rms_norm_eps: f64,
    /// Longest sequence that the positions were made for. Default: 2048.
    pub max_position_embeddings: i64,
    /// Rotary position embedding.
    pub rope: RopeParameters,
    /// Whether the head shares its weight with the embedding. Default: false.
    pub tie_word_embeddings: bool,
    /// Biases on the q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub o_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Standard deviation of new weights. Default: 0.02.
    pub initializer_range: f64,
    /// The weights' type as the file states it, for example `bfloat16`. See [`crate::WeightDtype`].
    pub dtype: Option<String>,
    /// The whole file, in its order. Saving keeps the fields that are not used here.
    pub raw: Map<String, Value>,
}

impl Config {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Json`] for the file. [`Error::Config`] names the first field
    /// that is wrong or not supported.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = std::fs::read(&path).map_err(Error::read(&path))?;
        let value = serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        Self::from_json(value, &path)
    }

    /// Reads a parsed config.json. `path` is only used in messages.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that is wrong or not supported.
    pub fn from_json(value: Value, path: &Path) -> Result<Self, Error> {
        let Value::Object(raw) = value else {
            let problem = "must be a JSON object".to_owned();
            return Err(Error::Config { path: path.to_owned(), field: "the file's content".to_owned(), problem });
        };
        let fields = Fields::new(&raw, path);
        let family = family(&fields)?;
        let hidden_size = fields.count("hidden_size", None)?;
        let num_attention_heads = fields.count("num_attention_heads", None)?;
        let head_dim = match fields.optional_count("head_dim")? {
            Some(head_dim) => head_dim,
            None if hidden_size % num_attention_heads == 0 => hidden_size / num_attention_heads,
            None => {
                let problem = format!("{hidden_size} is not a multiple of num_attention_heads {num_attention_heads}");
                return Err(fields.error("hidden_size", problem));
            }
        };
        if head_dim % 2 != 0 {
            return Err(fields.error("head_dim", format!("{head_dim} is odd; rotary embedding needs pairs")));
        }
        let num_key_value_heads = fields.optional_count("num_key_value_heads")?.unwrap_or(num_attention_heads);
        if num_attention_heads % num_key_value_heads != 0 {
            let problem = format!("{num_key_value_heads} does not divide num_attention_heads {num_attention_heads}");
            return Err(fields.error("num_key_value_heads", problem));
        }
        reject_unsupported(&fields, family)?;
        let max_position_embeddings = fields.count("max_position_embeddings", Some(2048))?;
        let num_hidden_layers = untrusted::config::num_hidden_layers(fields.count("num_hidden_layers", None)?)
            .map_err(|problem| fields.error("num_hidden_layers", problem))?;
        let attention_bias = family == Family::Llama && fields.flag("attention_bias", Some(false))?;

        let config = Self {
            family,
            vocab_size: fields.count("vocab_size", None)?,
            hidden_size,
            intermediate_size: fields.count("intermediate_size", None)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps", Some(1e-6))?,
            max_position_embeddings,
            rope: RopeParameters::read(&fields, max_position_embeddings)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", Some(false))?,
            qkv_bias: family == Family::Qwen2 || attention_bias,
            o_bias: attention_bias,
            mlp_bias: family == Family::Llama && fields.flag("mlp_bias", Some(false))?,
            initializer_range: fields.positive("initializer_range", Some(0.02))?,
            dtype: fields.text("dtype")?.or(fields.text("torch_dtype")?).map(str::to_owned),
            raw: Map::new(),
        };
        untrusted::config::check_matrix_sizes(&config).map_err(|(field, problem)| fields.error(field, problem))?;
        Ok(Self { raw, ..config })
    }

    /// Gives the head a weight of its own, also in what is saved.
    pub(crate) fn untie_head(&mut self) {
        self.tie_word_embeddings = false;
        self.raw.insert("tie_word_embeddings".to_owned(), Value::from(false));
    }

    /// config.json for a model saved in `dtype`: the file as it was read, with the type in the
    /// field that the file used for it.
    pub(crate) fn to_json(&self, dtype: &str) -> Value {
        let mut raw = self.raw.clone();
        let old_spelling = raw.contains_key("torch_dtype") && !raw.contains_key("dtype");
        raw.insert(if old_spelling { "torch_dtype" } else { "dtype" }.to_owned(), Value::from(dtype));
        if raw.contains_key("torch_dtype") {
            raw.insert("torch_dtype".to_owned(), Value::from(dtype));
        }
        Value::Object(raw)
    }
}

fn family(fields: &Fields<'_>) -> Result<Family, Error> {
    let Some(name) = fields.text("model_type")? else {
        return Err(fields.error("model_type", "is missing; qwen2, llama and mistral are supported".to_owned()));
    };
    let unsupported = |_| {
        let problem = format!("\"{name}\" is not supported; qwen2, llama and mistral are");
        fields.error("model_type", problem)
    };
    name.parse().map_err(unsupported)
}

/// Refuses fields that ask for arithmetic this crate does not have. To ignore them would give wrong
/// results.
fn reject_unsupported(fields: &Fields<'_>, family: Family) -> Result<(), Error> {
    let activation = fields.text("hidden_act")?.unwrap_or("silu");
    if activation != "silu" {
        return Err(fields.error("hidden_act", format!("\"{activation}\" is not supported; silu is")));
    }
    if let Some(Value::Array(types)) = fields.get("layer_types")
        && let Some(other) = types.iter().find(|value| value.as_str() != Some("full_attention"))
    {
        return Err(fields.error("layer_types", format!("has {other}; only \"full_attention\" is supported")));
    }
    let sliding = match family {
        Family::Qwen2 => fields.flag("use_sliding_window", Some(false))?,
        // A window as long as the positions is full attention.
        Family::Mistral => {
            match (fields.optional_count("sliding_window")?, fields.optional_count("max_position_embeddings")?) {
                (Some(window), Some(positions)) => window < positions,
                (Some(_), None) => true,
                (None, _) => false,
            }
        }
        Family::Llama => false,
    };
    if sliding {
        let field = if family == Family::Qwen2 { "use_sliding_window" } else { "sliding_window" };
        return Err(fields.error(field, "asks for sliding-window attention, which is not supported".to_owned()));
    }
    let dropout = fields.number("attention_dropout", Some(0.0))?;
    if dropout != 0.0 {
        return Err(fields.error("attention_dropout", format!("{dropout} is not supported; 0 is")));
    }
    if fields.number("pretraining_tp", Some(1.0))? != 1.0 {
        return Err(fields.error("pretraining_tp", "other than 1 is not supported".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
