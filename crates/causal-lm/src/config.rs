//! config.json: what the model is. It mirrors transformers' `Qwen2Config`, `LlamaConfig` and
//! `MistralConfig`, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`, `torch_dtype`)
//! and of 5 (`rope_parameters`, `dtype`).

mod family;
mod fields;
mod known;
mod rope;
mod window;

pub use family::Family;
pub use rope::{RopeParameters, RopeScaling};

use crate::untrusted::files::{self, FileLimit};
use crate::{Error, untrusted};
use family::{HIDDEN_SIZE, NUM_ATTENTION_HEADS, NUM_HIDDEN_LAYERS};
use fields::Fields;
use serde_json::{Map, Value};
use std::num::NonZeroUsize;
use std::path::Path;

/// Shape and hyperparameters of a decoder. A field that the file leaves out has the default of the
/// family's class in transformers 5.17.
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
    /// Key and value heads, `g`; `h` is a multiple of it. Default: 32 for Qwen2, `h` for
    /// Llama, 8 for Mistral.
    pub num_key_value_heads: i64,
    /// Size of one head, `k`. Default: `d / h`.
    pub head_dim: i64,
    /// Added to the mean square in RMSNorm. Default: 1e-6.
    pub rms_norm_eps: f64,
    /// Longest sequence that the positions were made for. Default: 32,768 for Qwen2, 2048 for
    /// Llama, 131,072 for Mistral.
    pub max_position_embeddings: i64,
    /// Tokens that a token attends to, itself included, in the layers that have a sliding window;
    /// `None` if no layer has. Default: 4096 for Mistral, none for the others. A window that a row
    /// does not pass changes nothing, and longer rows are not supported: see
    /// [`longest_row`](Self::longest_row).
    pub sliding_window: Option<NonZeroUsize>,
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
    /// Fields of the file that nothing here understands, or that another one overrules. They have
    /// no effect, as in transformers.
    pub ignored_fields: Vec<String>,
    /// The whole file, in its order. Saving keeps the fields that are not used here.
    pub raw: Map<String, Value>,
}

impl Config {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        Self::from_file(&dir.join("config.json"))
    }

    /// Reads a config.json. Nothing else is read, so a model can be judged before its weights are
    /// there.
    ///
    /// # Errors
    /// [`Error::Read`], also for what is not a regular file or has more than 64 MiB, and
    /// [`Error::Json`] for the file. [`Error::Config`] names the first field that is wrong or not
    /// supported.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let value = files::json(path, FileLimit::CONFIG)?;
        Self::from_json(value, path)
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
        known::reject_quantised(&fields)?;
        let family = family(&fields)?;
        let defaults = family.defaults();
        let hidden_size = fields.count("hidden_size", Some(HIDDEN_SIZE))?;
        let num_attention_heads = fields.count("num_attention_heads", Some(NUM_ATTENTION_HEADS))?;
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
        let num_key_value_heads = match (family, defaults.num_key_value_heads) {
            // In Qwen2's class null means as many as query heads, which absence does not.
            (Family::Qwen2, _) if fields.is_null("num_key_value_heads") => num_attention_heads,
            (_, Some(heads)) => fields.count("num_key_value_heads", Some(heads))?,
            (_, None) => fields.optional_count("num_key_value_heads")?.unwrap_or(num_attention_heads),
        };
        if num_attention_heads % num_key_value_heads != 0 {
            let problem = format!("{num_key_value_heads} does not divide num_attention_heads {num_attention_heads}");
            return Err(fields.error("num_key_value_heads", problem));
        }
        known::reject_unsupported(&fields)?;
        let max_position_embeddings =
            fields.count("max_position_embeddings", Some(defaults.max_position_embeddings))?;
        let num_hidden_layers = fields.count("num_hidden_layers", Some(NUM_HIDDEN_LAYERS))?;
        let num_hidden_layers = untrusted::config::num_hidden_layers(num_hidden_layers)
            .map_err(|problem| fields.error("num_hidden_layers", problem))?;
        let attention_bias = family == Family::Llama && fields.flag("attention_bias", false)?;
        let (rope, mut ignored_fields) = {
            let sizes = rope::RopeSizes { head_dim, max_position_embeddings };
            RopeParameters::read(&fields, &rope::RopeClass::PLAIN, sizes)?
        };
        ignored_fields.extend(known::unknown(&fields, family));

        let config = Self {
            family,
            vocab_size: fields.count("vocab_size", Some(defaults.vocab_size))?,
            hidden_size,
            intermediate_size: fields.count("intermediate_size", Some(defaults.intermediate_size))?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps", Some(1e-6))?,
            max_position_embeddings,
            sliding_window: window::read(&fields, family, num_hidden_layers)?,
            rope,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
            qkv_bias: family == Family::Qwen2 || attention_bias,
            o_bias: attention_bias,
            mlp_bias: family == Family::Llama && fields.flag("mlp_bias", false)?,
            initializer_range: fields.positive("initializer_range", Some(0.02))?,
            dtype: fields.text("dtype")?.or(fields.text("torch_dtype")?).map(str::to_owned),
            ignored_fields,
            raw: Map::new(),
        };
        untrusted::config::check_matrix_sizes(&config).map_err(|(field, problem)| fields.error(field, problem))?;
        Ok(Self { raw, ..config })
    }

    /// The most tokens that a row may have, in tokens: the sliding window, if there is one. Within
    /// it, windowed attention is full attention; beyond it the two differ.
    pub fn longest_row(&self) -> Option<NonZeroUsize> {
        self.sliding_window
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

#[cfg(test)]
mod tests;
