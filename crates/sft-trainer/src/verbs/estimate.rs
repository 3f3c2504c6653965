//! What a run would cost on a GPU: memory by part, and the time of a step. Only config.json is
//! read.
//!
//! Memory follows from shapes. Times follow from operations and bytes by two shares of a card's
//! peak rates, which are fitted to the steps measured on an H100 in docs/performance.md. On other
//! cards they are guesses.

mod cards;
mod text;

use crate::Error;
use crate::config::{OptimizerName, SftConfig};
use crate::hub::Hub;
use crate::verbs::{Answer, Colours, problem};
pub use cards::{CARDS, Card};
use causal_lm::{Config, ParameterKind, ParameterSpec, Recompute, WeightDtype};
use galore_optim::{GaLoreConfig, MomentDtype, Rank, WeightUpdate, select_targets};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tch::Kind;

/// Logits of one chunk of the head, see `causal_lm`.
const LOGITS_BYTES: u64 = 256 << 20;
/// Small buffers of the optimizer, of cuBLAS and of the batch.
const BUFFER_BYTES: u64 = 96 << 20;
/// What the driver and the kernels of libtorch take, which libtorch's own figures leave out.
const CONTEXT_BYTES: u64 = 700 << 20;
/// Part of a card that the allocator can use: it loses some between its blocks.
const USABLE: f64 = 0.95;
/// Parts of the peak rates that a step reaches, fitted to an H100.
const PRODUCTS: f64 = 0.47;
const BANDWIDTH: f64 = 0.35;

/// Memory of the peak, in bytes, by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The model's weights.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Hidden bits of the weights, with `bf16_weight_update` exact.
    pub hidden_bits: u64,
    /// Adam's moments.
    pub moments: u64,
    /// GaLore's bases.
    pub bases: u64,
    /// What the backward keeps of the forward.
    pub activations: u64,
    /// Logits of one chunk of the head, and buffers.
    pub head_and_buffers: u64,
}

impl Memory {
    /// What does not depend on the batch.
    pub fn fixed(&self) -> u64 {
        self.weights + self.gradients + self.hidden_bits + self.moments + self.bases
    }

    /// All of it: what libtorch's allocator has given out at the peak.
    pub fn total(&self) -> u64 {
        self.fixed() + self.activations + self.head_and_buffers
    }
}

/// A run on one card.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnCard {
    /// The card's name.
    pub card: &'static str,
    /// Bytes that a run can use.
    pub usable_bytes: u64,
    /// Memory of the peak.
    pub memory: Memory,
    /// Whether it fits.
    pub fits: bool,
    /// What is computed again.
    pub recomputed: String,
    /// The time of a step without a refresh, in milliseconds. A guess on all cards but an H100.
    pub step_ms: f64,
    /// Tokens a second in full batches.
    pub tokens_per_second: f64,
    /// Options that make it fit, if it does not and there are any; `None`: nothing helps.
    pub to_fit: Option<Vec<String>>,
}

/// What a run would cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Number of weights.
    pub num_parameters: u64,
    /// Number of GaLore's targets.
    pub num_targets: usize,
    /// Tokens of a micro-batch in which every row is as long as allowed.
    pub batch_tokens: u64,
    /// Optimizer steps take this many micro-batches.
    pub micro_batches: u64,
    /// The run on each card that was asked about.
    pub cards: Vec<OnCard>,
}

impl Answer for Estimate {
    fn text(&self, _colours: Colours) -> String {
        self.to_text()
    }

    fn json(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }
}

/// Estimates a run on the cards of these names, or on all that are known. `hub` is for a model that
/// is not on disk; without it [`Hub::from_env`] is used.
///
/// # Errors
/// What is wrong with the configuration or the model's config.json. Without `max_length` there is
/// no longest row, which is an [`Error::Config`].
pub fn estimate(config: &SftConfig, hub: Option<Hub>, cards: &[String]) -> Result<Estimate, Error> {
    config.validate()?;
    let card = |name: &String| {
        let known = || CARDS.iter().map(|card| card.name).collect::<Vec<_>>().join(", ");
        Card::named(name).copied().ok_or_else(|| problem(format!("card {name} is not known: use {}", known())))
    };
    let cards = cards.iter().map(card).collect::<Result<Vec<_>, _>>()?;
    let cards = if cards.is_empty() { CARDS } else { &cards };
    let name = &config.model.model_name;
    let folder = match hub {
        _ if Path::new(name).is_dir() => PathBuf::from(name),
        Some(hub) => hub.model_config_dir(name, &config.model.model_revision)?,
        None => Hub::from_env()?.model_config_dir(name, &config.model.model_revision)?,
    };
    of_model(config, &Config::from_dir(&folder)?, cards)
}

/// The estimate for a model of this shape.
fn of_model(config: &SftConfig, model: &Config, cards: &[Card]) -> Result<Estimate, Error> {
    let shapes = Shapes::of(config, model)?;
    let mut answers = Vec::new();
    for card in cards {
        let mut answer = on_card(config, model, &shapes, card)?;
        if !answer.fits {
            answer.to_fit = what_fits(config, model, card)?;
        }
        answers.push(answer);
    }
    Ok(Estimate {
        num_parameters: shapes.count(|_| true),
        num_targets: shapes.targets.len(),
        batch_tokens: batch_tokens(config)?,
        micro_batches: config.training.gradient_accumulation_steps as u64,
        cards: answers,
    })
}

/// Every row as long as allowed.
fn batch_tokens(config: &SftConfig) -> Result<u64, Error> {
    let Some(length) = config.prepare.max_length.filter(|length| *length > 0) else {
        return Err(problem("max_length is not set: an estimate needs the longest row".to_owned()));
    };
    Ok(length as u64 * config.training.per_device_train_batch_size as u64)
}

/// The model's weights, and which of them are targets.
struct Shapes {
    specs: Vec<ParameterSpec>,
    targets: HashSet<String>,
}

impl Shapes {
    fn of(config: &SftConfig, model: &Config) -> Result<Self, Error> {
        let specs = model.parameter_specs();
        let mut targets = HashSet::new();
        if config.optimizer.optim == OptimizerName::GaLoreAdamW {
            let linear = |spec: &&ParameterSpec| matches!(spec.kind, ParameterKind::Linear | ParameterKind::Head);
            let names = specs.iter().filter(linear).filter_map(|spec| spec.name.strip_suffix(".weight"));
            let names: Vec<&str> = names.collect();
            let selected = select_targets(&names, &config.optimizer.targets())?;
            targets.extend(selected.into_iter().map(|name| format!("{name}.weight")));
        }
        Ok(Self { specs, targets })
    }

    fn count(&self, which: impl Fn(&ParameterSpec) -> bool) -> u64 {
        self.specs.iter().filter(|spec| which(spec)).map(elements).sum()
    }
}

fn elements(spec: &ParameterSpec) -> u64 {
    u64::try_from(spec.numel()).unwrap_or(0)
}

/// Bytes of one element.
fn width(kind: Kind) -> u64 {
    kind.elt_size_in_bytes() as u64
}

/// What does not depend on the batch.
fn fixed_memory(config: &SftConfig, shapes: &Shapes) -> Result<Memory, Error> {
    let kind = match config.model.dtype {
        WeightDtype::Auto => Kind::BFloat16,
        dtype => dtype.kind().unwrap_or(Kind::BFloat16),
    };
    let all = shapes.count(|_| true);
    let is_exact = matches!(config.optimizer.weight_update(kind, 0), WeightUpdate::Exact) && width(kind) == 2;
    // As on CUDA, see `optimizer::build`.
    let moments = config.optimizer.optim_state_dtype.0.unwrap_or(match kind {
        Kind::BFloat16 => MomentDtype::Bfloat16,
        _ => MomentDtype::Float32,
    });
    let moment_bytes = if moments == MomentDtype::Bfloat16 { 2 } else { 4 };
    let mut memory = Memory {
        weights: all * width(kind),
        gradients: all * width(kind),
        hidden_bits: if is_exact { all * 2 } else { 0 },
        ..Memory::default()
    };
    let galore = config.optimizer.galore()?;
    for spec in &shapes.specs {
        let (in_moments, in_bases) = match &galore {
            Some(galore) if shapes.targets.contains(&spec.name) => subspace(spec, galore),
            _ => (elements(spec), 0),
        };
        memory.moments += 2 * moment_bytes * in_moments;
        // Bases are float16 where moments are bfloat16.
        memory.bases += moment_bytes * in_bases;
    }
    Ok(memory)
}

/// Elements of one moment of a target, and of its bases.
fn subspace(spec: &ParameterSpec, galore: &GaLoreConfig) -> (u64, u64) {
    let &[rows, cols] = &spec.shape[..] else { return (elements(spec), 0) };
    let rank = galore.effective_rank(rows, cols);
    let size = |number: i64| u64::try_from(number).unwrap_or(0);
    // The basis lies along the shorter side; `right`, `left` and `full` differ by little.
    (size(rows.max(cols)) * size(rank), size(rows.min(cols)) * size(rank))
}

fn on_card(config: &SftConfig, model: &Config, shapes: &Shapes, card: &Card) -> Result<OnCard, Error> {
    let tokens = batch_tokens(config)?;
    let mut memory = fixed_memory(config, shapes)?;
    let compute = Kind::BFloat16;
    let usable = (card.memory_bytes() as f64 * USABLE) as u64 - CONTEXT_BYTES;
    let hidden = u64::try_from(model.hidden_size).unwrap_or(0) * tokens * width(compute);
    let inputs = hidden * model.num_hidden_layers as u64;
    // As `memory::share_out`, which sees what is free when all but the batch is in place.
    let free = usable.saturating_sub(memory.fixed());
    let within = Recompute::Within { bytes: (free / 10 * 9).saturating_sub(2 << 30) };
    let recompute = config.model.chosen_recompute().unwrap_or(within);
    let (kept, one_block) = model.kept_bytes(recompute, tokens, compute);
    let (kept_all, _) = model.kept_bytes(Recompute::None, tokens, compute);
    let head = LOGITS_BYTES.min(u64::try_from(model.vocab_size).unwrap_or(0) * tokens * width(compute)) + 2 * hidden;
    memory.activations = inputs + kept;
    // The head runs when everything is kept; a block's backward when one more block is there.
    let again = if kept == kept_all { 0 } else { one_block };
    memory.head_and_buffers = head.max(again) + BUFFER_BYTES;
    let share = kept as f64 / kept_all.max(1) as f64;
    let recomputed = match recompute {
        Recompute::Within { .. } if kept == kept_all => "nothing".to_owned(),
        Recompute::Within { .. } => format!("{:.0} % of the blocks", (1.0 - share) * 100.0),
        Recompute::None => "nothing".to_owned(),
        Recompute::Cheap => "norms".to_owned(),
        Recompute::Block => "every block".to_owned(),
    };
    let step = step_seconds(config, model, shapes, card, (tokens, 1.0 - share, memory))?;
    let micro_batches = config.training.gradient_accumulation_steps as f64;
    Ok(OnCard {
        card: card.name,
        usable_bytes: usable,
        fits: memory.total() <= usable,
        memory,
        recomputed,
        step_ms: step * 1e3,
        tokens_per_second: tokens as f64 * micro_batches / step,
        to_fit: None,
    })
}

/// Seconds of an optimizer step. `work` is the tokens of a micro-batch, the part of the blocks that
/// is computed again, and the memory.
fn step_seconds(
    config: &SftConfig,
    model: &Config,
    shapes: &Shapes,
    card: &Card,
    work: (u64, f64, Memory),
) -> Result<f64, Error> {
    let (tokens, again, memory) = work;
    let tokens = tokens as f64;
    let length = config.prepare.max_length.unwrap_or(0) as f64;
    let linear = shapes.count(|spec| spec.kind == ParameterKind::Linear) as f64;
    let head = model.vocab_size as f64 * model.hidden_size as f64;
    let queries = (model.num_attention_heads * model.head_dim) as f64;
    // Two products of the length, half of which the mask leaves; the backward takes 2.5 times as
    // much.
    let attention = 2.0 * length * queries * model.num_hidden_layers as f64 * tokens;
    let blocks = 2.0 * linear * tokens + attention;
    let one_batch = 6.0 * (linear + head) * tokens + 3.5 * attention + again * blocks;
    let (mut products, mut moved) = (0.0, 0.0);
    if let Some(galore) = config.optimizer.galore()? {
        let targets = shapes.specs.iter().filter(|spec| shapes.targets.contains(&spec.name));
        for spec in targets {
            let rank = match spec.shape[..] {
                [rows, cols] => galore.effective_rank(rows, cols) as f64,
                _ => 0.0,
            };
            // To the subspace and back.
            products += 4.0 * elements(spec) as f64 * rank;
        }
    }
    moved +=
        (2 * memory.weights + memory.gradients + 2 * memory.hidden_bits + 2 * memory.moments + memory.bases) as f64;
    let flops = card.teraflops * 1e12 * PRODUCTS;
    let bandwidth = card.gigabytes_per_second * 1e9 * BANDWIDTH;
    let micro_batches = config.training.gradient_accumulation_steps as f64;
    Ok((micro_batches * one_batch + products) / flops + moved / bandwidth)
}

/// The first set of options with which the run fits. They are tried from those that change least.
fn what_fits(config: &SftConfig, model: &Config, card: &Card) -> Result<Option<Vec<String>>, Error> {
    let mut tried = config.clone();
    let mut options: Vec<(&str, String)> = Vec::new();
    loop {
        let Some((name, value)) = next_option(&mut tried) else { return Ok(None) };
        options.retain(|(known, _)| *known != name);
        options.push((name, value));
        if name == "per_device_train_batch_size" {
            let steps = tried.training.gradient_accumulation_steps.to_string();
            options.retain(|(known, _)| *known != "gradient_accumulation_steps");
            options.push(("gradient_accumulation_steps", steps));
        }
        if on_card(&tried, model, &Shapes::of(&tried, model)?, card)?.fits {
            return Ok(Some(options.into_iter().map(|(name, value)| format!("`{name}` {value}")).collect()));
        }
    }
}

/// Changes one option towards less memory, and returns it. First come those that keep the training
/// as it is.
fn next_option(config: &mut SftConfig) -> Option<(&'static str, String)> {
    use crate::config::{Auto, WeightRounding};
    if config.model.chosen_recompute().is_some_and(|chosen| chosen != Recompute::Block) {
        config.model.gradient_checkpointing = true;
        config.model.recompute = Auto(Some(Recompute::Block));
        return Some(("recompute", "block".to_owned()));
    }
    if config.training.per_device_train_batch_size > 1 {
        let training = &mut config.training;
        let halves = training.per_device_train_batch_size.div_ceil(2);
        training.per_device_train_batch_size = halves;
        training.gradient_accumulation_steps *= 2;
        return Some(("per_device_train_batch_size", halves.to_string()));
    }
    let optimizer = &mut config.optimizer;
    if config.model.dtype != WeightDtype::BFloat16 {
        config.model.dtype = WeightDtype::BFloat16;
        return Some(("dtype", "bfloat16".to_owned()));
    }
    if optimizer.bf16_weight_update == Some(WeightRounding::Exact) {
        optimizer.bf16_weight_update = Some(WeightRounding::Stochastic);
        return Some(("bf16_weight_update", "stochastic".to_owned()));
    }
    if optimizer.optim_state_dtype.0 == Some(MomentDtype::Float32) {
        optimizer.optim_state_dtype = Auto(Some(MomentDtype::Bfloat16));
        return Some(("optim_state_dtype", "bfloat16".to_owned()));
    }
    if optimizer.optim == OptimizerName::AdamW {
        optimizer.optim = OptimizerName::GaLoreAdamW;
        optimizer.optim_args = None;
        return Some(("optim", "galore_adamw".to_owned()));
    }
    let galore = optimizer.galore().ok()??;
    let lower = match galore.rank {
        Rank::Vectors(count) if count > 64 => Some(Rank::Vectors(count / 2)),
        Rank::Fraction(part) if part > 0.0625 => Some(Rank::Fraction(part / 2.0)),
        Rank::Vectors(_) | Rank::Fraction(_) => None,
    };
    if let Some(rank) = lower {
        let others =
            optimizer.optim_args.clone().unwrap_or_else(|| "rank=0, update_proj_gap=500, scale=1.8".to_owned());
        let others = others.split(',').map(str::trim).filter(|part| !part.is_empty() && !part.starts_with("rank"));
        let arguments = std::iter::once(format!("rank={rank}")).chain(others.map(str::to_owned));
        let arguments = arguments.collect::<Vec<_>>().join(",");
        optimizer.optim_args = Some(arguments.clone());
        return Some(("optim_args", arguments));
    }
    let length = config.prepare.max_length.filter(|length| *length > 256)?;
    config.prepare.max_length = Some(length / 2);
    Some(("max_length", (length / 2).to_string()))
}

#[cfg(test)]
mod tests;
