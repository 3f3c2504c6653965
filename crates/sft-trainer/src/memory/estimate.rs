//! Whether a model can fit at all, before its weights are read.

use super::advice;
use crate::Error;
use crate::config::SftConfig;
use crate::memory::Phase;
use causal_lm::{Config, WeightDtype};
use galore_optim::MomentDtype;
use tch::{Device, Kind};
use torch_ext::host;
use tracing::warn;

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Room {
    /// What is free now. Other processes may give more back.
    free: u64,
    /// What this process can have at most.
    most: u64,
}

/// Refuses a model whose weights, gradients and optimizer state are certainly more than the device
/// has, and warns of one that needs more than is free now.
///
/// # Errors
/// [`Error::OutOfMemory`] with what would help.
pub(crate) fn check_fits(config: &SftConfig, model: &Config, device: Device) -> Result<(), Error> {
    let Some(room) = room(device) else { return Ok(()) };
    let needed = least_bytes(config, model, device);
    let place = if device.is_cuda() { "the GPU" } else { "this process" };
    let takes = format!("weights, gradients and optimizer state take at least {} GB", gigabytes(needed));
    if needed > room.most {
        let message = format!("{takes}, and {place} has {} GB", gigabytes(room.most));
        return Err(Error::OutOfMemory { message, advice: advice(config, Phase::Loading) });
    }
    if needed > room.free {
        warn!("{takes}, and {} GB are free", gigabytes(room.free));
    }
    Ok(())
}

/// `None` where the system does not say.
fn room(device: Device) -> Option<Room> {
    match device {
        Device::Cuda(index) => {
            let free = torch_ext::cuda::available_memory(index).ok()?;
            Some(Room { free, most: free })
        }
        _ => {
            let machine = host::memory();
            let group = host::unused_cgroup_bytes().unwrap_or(u64::MAX);
            Some(Room { free: machine.free_bytes?.min(group), most: machine.total_bytes?.min(group) })
        }
    }
}

/// A lower bound: the state of GaLore's targets is left out, because it depends on ranks.
pub(super) fn least_bytes(config: &SftConfig, model: &Config, device: Device) -> u64 {
    let size = |number: i64| u64::try_from(number).unwrap_or(0);
    let layers = u64::try_from(model.num_hidden_layers).unwrap_or(0);
    let (width, inner) = (size(model.hidden_size), size(model.intermediate_size));
    let queries = size(model.num_attention_heads).saturating_mul(size(model.head_dim));
    let keys = size(model.num_key_value_heads).saturating_mul(size(model.head_dim));
    // q and o, k and v, and the three matrices of the MLP.
    let rows = [queries, queries, keys, keys, inner, inner, inner].into_iter().fold(0, u64::saturating_add);
    let linear = layers.saturating_mul(width).saturating_mul(rows);
    let embedding = size(model.vocab_size).saturating_mul(width);
    let embeddings = embedding.saturating_mul(if model.tie_word_embeddings { 1 } else { 2 });
    let all = linear.saturating_add(embeddings);

    let weight_bytes = match config.model.dtype {
        WeightDtype::Auto => 2,
        dtype => {
            if dtype.kind() == Some(Kind::Float) {
                4
            } else {
                2
            }
        }
    };
    let optimizer = &config.optimizer;
    let moment_bytes = match optimizer.moments() {
        Some(MomentDtype::Blockwise8bit | MomentDtype::Compact) => 1,
        _ if device.is_cuda() && weight_bytes == 2 => 2,
        _ => 4,
    };
    let with_state = match optimizer.optim {
        name if !name.has_moments() => 0,
        // The head may be a target too.
        name if name.is_projected() => embedding,
        _ => all,
    };
    all.saturating_mul(2 * weight_bytes).saturating_add(with_state.saturating_mul(2 * moment_bytes))
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OptimizerName;

    /// A model of 6.7 G weights, by its config.json.
    fn seven_billion() -> Config {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false,
        });
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        Config::from_dir(folder.path()).unwrap()
    }

    #[test]
    fn the_least_that_a_model_takes_follows_from_its_shapes() {
        let model = seven_billion();
        let mut config = SftConfig::new("m", "o");
        let linear = 32 * 4096 * (4 * 4096 + 3 * 11008);
        let (embedding, all) = (32000 * 4096, linear + 2 * 32000 * 4096);
        assert_eq!(least_bytes(&config, &model, Device::Cpu), 4 * all + 8 * embedding);
        assert_eq!(least_bytes(&config, &model, Device::Cuda(0)), 4 * all + 4 * embedding);
        config.optimizer.optim = OptimizerName::AdamW;
        assert_eq!(least_bytes(&config, &model, Device::Cpu), 12 * all);
        config.model.dtype = WeightDtype::Float32;
        assert_eq!(least_bytes(&config, &model, Device::Cuda(0)), 16 * all);
    }
}
