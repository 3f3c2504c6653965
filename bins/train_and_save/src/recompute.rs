//! What the backward may keep, by the memory there is.

use crate::memory::host_bytes;
use crate::summary::grouped;
use causal_lm::{CausalLm, Recompute};
use galore_optim::Optimizer;
use std::path::Path;
use tch::Device;

/// Left free on a GPU: logits, one block's backward, the optimizer's buffers, a decomposition.
const RESERVE_BYTES: u64 = 2 << 30;

/// Lets the backward keep as much as memory allows, and decompositions take some of the same
/// memory; says what that comes to for a batch of `full_batch` tokens.
pub fn choose(model: &mut CausalLm, optimizer: &mut dyn Optimizer, full_batch: usize) -> String {
    let bytes = match model.options().device {
        // What cannot be measured is not used. A tenth is lost between blocks of the allocator.
        Device::Cuda(index) => {
            let available = torch_ext::cuda::available_memory(index).unwrap_or(0);
            (available / 10 * 9).saturating_sub(RESERVE_BYTES)
        }
        // The rest of the machine's memory is not ours alone.
        _ => host_bytes().0.unwrap_or(0).min(unused_share().unwrap_or(u64::MAX)) / 4,
    };
    if model.options().device.is_cuda() {
        // Not at the same time as what the backward keeps.
        optimizer.allow_refresh_memory((bytes / 2).clamp(600_000_000, 4_000_000_000));
    }
    model.set_recompute(Recompute::Within { bytes });
    let kept = model.kept_blocks(i64::try_from(full_batch).unwrap_or(i64::MAX));
    format!(
        "recompute: of a full batch of {} tokens {kept} of {} blocks are kept, the others computed again ({:.1} GB may be used)",
        grouped(full_batch),
        model.config().num_hidden_layers,
        bytes as f64 / 1e9
    )
}

/// What is left of the memory that a container or a batch system holds this process to.
fn unused_share() -> Option<u64> {
    let number = |file: &str| -> Option<u64> {
        std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse().ok()
    };
    // "max" is no number: no limit.
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}
