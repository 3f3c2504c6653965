//! config.json: what the model is. Mirrors transformers' `Qwen2Config`, `LlamaConfig` and
//! `MistralConfig`, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`)
//! and of 5 (`rope_parameters`, `dtype`).

mod fields;
mod rope;

pub use rope::{RopeParameters, RopeScaling};

use crate::Error;
use fields::Fields;
use serde_json::{Map, Value};
use std::path::Path;

/// The decoder families that are supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Qwen1.5, Qwen2 and Qwen2.5 (arXiv 2407.10671): biases on q, k and v.
    Qwen2,
    /// Llama 2 and 3 (arXiv 2307.09288, 2407.21783) and what follows their layout, SmolLM2 for one.
    Llama,
    /// Mistral 7B (arXiv 2310.06825), with its sliding window off.
    Mistral,
}

/// Shape and hyper-parameters of a decoder. Defaults of absent fields are those of transformers
/// 5.17.
#[derive(Debug, Clone)]
pub struct Config {
    /// Decoder family, `model_type` in the file.
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
    /// Key and value heads, `g`; `h` is a multiple.
    pub num_key_value_heads: i64,
    /// Size of one head, `k`; `d / h` unless the file says otherwise.
    pub head_dim: i64,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Longest sequence the positions were made for.
    pub max_position_embeddings: i64,
    /// Rotary position embedding.
    pub rope: RopeParameters,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Biases on the q, k and v projections.
    pub qkv_bias: bool,
    /// Bias on the attention's output projection.
    pub o_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// The weights' type as the file states it, for example `bfloat16`.
    pub dtype: Option<String>,
    /// The file as it was, in its order: saving keeps the fields that mean nothing here.
    pub raw: Map<String, Value>,
}

impl Config {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Json`] for the file; [`Error::Config`] names the first field
    /// that is wrong or not supported.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("config.json");
        let text = std::fs::read(&path).map_err(Error::read(&path))?;
        let value = serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
        Self::from_json(value, &path)
    }

    /// Reads a parsed config.json; `path` is for messages only.
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
        let attention_bias = family == Family::Llama && fields.flag("attention_bias", Some(false))?;

        let config = Self {
            family,
            vocab_size: fields.count("vocab_size", None)?,
            hidden_size,
            intermediate_size: fields.count("intermediate_size", None)?,
            num_hidden_layers: num_hidden_layers(&fields)?,
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
        config.check_sizes(&fields)?;
        Ok(Self { raw, ..config })
    }

    /// Sizes whose products are no weight matrix of this world would overflow, or take hours to
    /// refuse.
    fn check_sizes(&self, fields: &Fields<'_>) -> Result<(), Error> {
        const LARGEST_MATRIX: i64 = 1 << 36;
        let query_width = self.num_attention_heads.saturating_mul(self.head_dim);
        for (field, width) in
            [("vocab_size", self.vocab_size), ("intermediate_size", self.intermediate_size), ("head_dim", query_width)]
        {
            if width.saturating_mul(self.hidden_size) > LARGEST_MATRIX {
                let problem = format!("with hidden_size {} makes a matrix of more than 2^36 weights", self.hidden_size);
                return Err(fields.error(field, problem));
            }
        }
        Ok(())
    }

    /// The head becomes a matrix of its own, in what is saved too.
    pub(crate) fn untie(&mut self) {
        self.tie_word_embeddings = false;
        self.raw.insert("tie_word_embeddings".to_owned(), Value::from(false));
    }

    /// config.json for a model saved in `dtype`: the file as it was read, with the type under the
    /// name that the file used.
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

fn num_hidden_layers(fields: &Fields<'_>) -> Result<usize, Error> {
    const MOST_LAYERS: i64 = 10_000;
    let layers = fields.count("num_hidden_layers", None)?;
    match usize::try_from(layers) {
        Ok(count) if layers <= MOST_LAYERS => Ok(count),
        _ => Err(fields.error("num_hidden_layers", format!("is {layers}, must be {MOST_LAYERS} or less"))),
    }
}

fn family(fields: &Fields<'_>) -> Result<Family, Error> {
    let Some(name) = fields.text("model_type")? else {
        return Err(fields.error("model_type", "is missing; qwen2, llama and mistral are supported".to_owned()));
    };
    match name {
        "qwen2" => Ok(Family::Qwen2),
        "llama" => Ok(Family::Llama),
        "mistral" => Ok(Family::Mistral),
        other => Err(fields.error("model_type", format!("\"{other}\" is not supported; qwen2, llama and mistral are"))),
    }
}

/// Fields that would change the arithmetic in a way that is not built: better refused than silently
/// wrong.
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
        // Positions beyond the window would see less than full attention gives them.
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
