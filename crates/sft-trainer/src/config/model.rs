//! Where and how the model is held and computed.

use super::Auto;
use causal_lm::{AttentionKind, CudaGraphs, ModelOptions, Recompute, WeightDtype};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};
use torch_ext::device::DeviceChoice;

/// The model of a run. Names are those of TRL's `ModelConfig` and transformers'
/// `TrainingArguments`; defaults are the documented recipe's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// A folder in Hugging Face's layout, or a hub id.
    pub model_name: String,
    /// Hub revision: branch, tag or commit. Default `main`.
    pub model_revision: String,
    /// Where to train. Default `auto`: CUDA if there is one.
    pub device: DeviceChoice,
    /// Train on the CPU, whatever `auto` would choose. Default false.
    pub use_cpu: bool,
    /// Type of the weights; `auto` is the file's own. Default bfloat16.
    pub dtype: WeightDtype,
    /// Compute in bfloat16. Unset: on CUDA, and not on the CPU, where float32 is faster.
    pub bf16: Option<bool>,
    /// How attention is computed. Default `flash_attention_2`.
    pub attn_implementation: AttentionKind,
    /// Whether the backward may compute again what there is no memory to keep. Default true.
    pub gradient_checkpointing: bool,
    /// What the backward computes again. Default `auto`: as little as free memory allows.
    pub recompute: Auto<Recompute>,
    /// Whether passes are recorded as CUDA graphs. Default `auto`: where they help.
    pub cuda_graphs: Auto<CudaGraphs>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            model_name: String::new(),
            model_revision: "main".to_owned(),
            device: DeviceChoice::Auto,
            use_cpu: false,
            dtype: WeightDtype::BFloat16,
            bf16: None,
            attn_implementation: AttentionKind::Flash,
            gradient_checkpointing: true,
            recompute: Auto(None),
            cuda_graphs: Auto(None),
        }
    }
}

impl ModelConfig {
    /// What the backward computes again; `None`: as little as free memory allows.
    pub fn chosen_recompute(&self) -> Option<Recompute> {
        if self.gradient_checkpointing { self.recompute.0 } else { Some(Recompute::None) }
    }

    pub(crate) fn chosen_device(&self) -> DeviceChoice {
        if self.use_cpu { DeviceChoice::Cpu } else { self.device }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.use_cpu && matches!(self.device, DeviceChoice::Cuda(_)) {
            problems.push("use_cpu is true: not together with a CUDA device".to_owned());
        }
        if let (false, Auto(Some(recompute))) = (self.gradient_checkpointing, self.recompute)
            && recompute != Recompute::None
        {
            let fix = "gradient_checkpointing is false: leave one of the two out";
            problems.push(format!("recompute is {recompute}: {fix}"));
        }
        problems
    }

    /// How the model is loaded onto `device`.
    pub(crate) fn options_on(&self, device: Device) -> ModelOptions {
        let compute_dtype = match (self.bf16, device) {
            (Some(true), _) => Some(Kind::BFloat16),
            (Some(false), _) => Some(Kind::Float),
            // The model's own rule on the CPU: float32 arithmetic.
            (None, Device::Cpu) => None,
            (None, _) => Some(Kind::BFloat16),
        };
        ModelOptions {
            device,
            dtype: self.dtype.kind(),
            compute_dtype,
            attention: self.attn_implementation,
            recompute: self.chosen_recompute().unwrap_or_default(),
            ..ModelOptions::default()
        }
    }
}
