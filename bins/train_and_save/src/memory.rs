//! How much memory there is, and what the backward may keep of it.

use crate::summary::grouped;
use causal_lm::{CausalLm, Recompute};
use std::path::Path;
use tch::Device;

/// Left free on a GPU: logits, one block's backward, the optimizer's buffers, a decomposition.
const RESERVE_BYTES: u64 = 2 << 30;

/// Lets the backward keep as much as memory allows; says what that comes to for a batch of `full_batch` tokens.
pub fn choose_recompute(model: &mut CausalLm, full_batch: usize) -> String {
    let bytes = match model.options().device {
        // What cannot be measured is not used. A tenth is lost between blocks of the allocator.
        Device::Cuda(index) => {
            let available = torch_ext::cuda::available_memory(index).unwrap_or(0);
            (available / 10 * 9).saturating_sub(RESERVE_BYTES)
        }
        // The rest of the machine's memory is not ours alone.
        _ => available_host_bytes().unwrap_or(0) / 4,
    };
    model.set_recompute(Recompute::Within { bytes });
    let kept = model.kept_blocks(i64::try_from(full_batch).unwrap_or(i64::MAX));
    format!(
        "recompute: of a full batch of {} tokens {kept} of {} blocks are kept, the others computed again ({:.1} GB may be used)",
        grouped(full_batch),
        model.config().num_hidden_layers,
        bytes as f64 / 1e9
    )
}

/// What programs can still have, of the machine's memory and of the share this process is held to.
fn available_host_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    let number = |file: &str| -> Option<u64> {
        std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?.trim().parse().ok()
    };
    // "max" is no number: no limit.
    let share = number("memory.max").and_then(|limit| Some(limit.saturating_sub(number("memory.current")?)));
    Some(share.map_or(free, |share| share.min(free)))
}
