//! Where and how the model is held and computed.

use super::DeviceChoice;
use super::problems::Problems;
use causal_lm::{AttentionKind, CudaGraphs, Recompute};
use tch::Kind;

pub(super) fn device(name: Option<&str>, use_cpu: Option<bool>, problems: &mut Problems) -> DeviceChoice {
    let choice = match name {
        None | Some("auto") if use_cpu.unwrap_or(false) => DeviceChoice::Cpu,
        None | Some("auto") => DeviceChoice::Auto,
        Some("cpu") => DeviceChoice::Cpu,
        Some("cuda") => DeviceChoice::Cuda(0),
        Some(name) => match name.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
            Some(index) => DeviceChoice::Cuda(index),
            None => {
                problems.add("device", name, "use auto, cpu, cuda or cuda:N");
                DeviceChoice::Auto
            }
        },
    };
    if use_cpu == Some(true) && matches!(choice, DeviceChoice::Cuda(_)) {
        problems.add("use_cpu", "true", "not together with a CUDA device");
    }
    choice
}

pub(super) fn dtype(name: &str, problems: &mut Problems) -> Option<Kind> {
    match name.trim_start_matches("torch.") {
        "auto" => None,
        "bfloat16" | "bf16" => Some(Kind::BFloat16),
        "float16" | "fp16" => Some(Kind::Half),
        "float32" | "fp32" => Some(Kind::Float),
        other => {
            problems.add("dtype", other, "use bfloat16, float16, float32 or auto");
            None
        }
    }
}

pub(super) fn recompute(name: Option<&str>, checkpointing: Option<bool>, problems: &mut Problems) -> Option<Recompute> {
    let chosen = match name {
        None if checkpointing == Some(false) => return Some(Recompute::None),
        None | Some("auto") => None,
        Some("none") => Some(Recompute::None),
        Some("cheap") => Some(Recompute::Cheap),
        Some("block") => Some(Recompute::Block),
        Some(other) => {
            problems.add("recompute", other, "use none, cheap, block or auto");
            None
        }
    };
    if checkpointing == Some(false) && chosen != Some(Recompute::None) {
        problems.add(
            "recompute",
            name.unwrap_or_default(),
            "gradient_checkpointing is false: leave one of the two out",
        );
    }
    chosen
}

pub(super) fn cuda_graphs(name: Option<&str>, problems: &mut Problems) -> Option<CudaGraphs> {
    match name {
        None | Some("auto") => None,
        Some("on") => Some(CudaGraphs::On),
        Some("off") => Some(CudaGraphs::Off),
        Some(other) => {
            problems.add("cuda_graphs", other, "use auto, on or off");
            None
        }
    }
}

pub(super) fn attention(name: Option<&str>, problems: &mut Problems) -> AttentionKind {
    match name {
        None | Some("flash_attention_2") => AttentionKind::Flash,
        Some("sdpa") => AttentionKind::Sdpa,
        Some("eager") => AttentionKind::Eager,
        Some(other) => {
            problems.add("attn_implementation", other, "use flash_attention_2, sdpa or eager");
            AttentionKind::Flash
        }
    }
}
