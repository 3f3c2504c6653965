//! When memory runs out: libtorch's error as the loop understands it, and what a user can change.

mod estimate;

use crate::Error;
use crate::config::SftConfig;
use causal_lm::{CausalLm, KeptBlocks, Recompute, WeightDtype};
pub(crate) use estimate::check_fits;
use galore_optim::Optimizer;
use std::error::Error as StdError;
use tch::Device;
use torch_ext::{AllocationFailure, MemoryLocation, host};
use tracing::info;
use trainer_core::{BoxError, Error as LoopError, OutOfMemory};

/// Bytes that subspace refreshes on a GPU may take: at least and at most.
const REFRESH_BYTES: (u64, u64) = (600_000_000, 4_000_000_000);

/// Lets the backward keep as much as free memory allows, and subspace refreshes use some of the
/// same memory, because the two never run at the same time.
pub(crate) fn share_out(model: &mut CausalLm, optimizer: &mut dyn Optimizer, full_batch_tokens: usize) {
    let free_bytes = match model.options().device {
        // What cannot be measured is not used.
        Device::Cuda(index) => torch_ext::cuda::available_memory(index).unwrap_or(0),
        _ => {
            let limit = host::unused_cgroup_bytes().unwrap_or(u64::MAX);
            host::memory().free_bytes.unwrap_or(0).min(limit)
        }
    };
    let KeptBlocks { kept, of, bytes } = model.keep_within(free_bytes, full_batch_tokens);
    if model.options().device.is_cuda() {
        optimizer.allow_refresh_memory((bytes / 2).clamp(REFRESH_BYTES.0, REFRESH_BYTES.1));
    }
    info!(
        "recompute: of a full batch of {} tokens {kept} of {of} blocks are kept, the others computed again ({:.1} GB may \
         be used)",
        crate::summary::grouped(full_batch_tokens),
        bytes as f64 / 1e9
    );
}

/// The outcome, with an error about memory as the one that the loop knows.
pub(crate) fn with_memory_facts<T>(outcome: Result<T, BoxError>) -> Result<T, BoxError> {
    outcome.map_err(|error| match recognise(&*error) {
        Some(found) => Box::new(OutOfMemory { source: Some(error), ..found }),
        None => error,
    })
}

/// What the memory was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Loading,
    /// Forward and backward.
    Training,
    /// The optimizer step. Forward and backward have freed their memory by then, so no batch is too
    /// large for it.
    Update,
    Evaluation,
}

/// The error, with advice if it is about memory.
pub(crate) fn with_advice(error: Error, config: &SftConfig, phase: Phase) -> Error {
    let error = match error {
        Error::NotStarted(_) | Error::OutOfMemory { .. } => return error,
        error => error,
    };
    let message = match &error {
        Error::Loop(found) if is_out_of_memory(found) => found.to_string(),
        _ => match recognise(&error) {
            Some(found) => found.to_string(),
            None => return error,
        },
    };
    let phase = match &error {
        Error::Loop(found) => match **found {
            LoopError::OutOfMemory { action: "evaluation", .. } => Phase::Evaluation,
            LoopError::OutOfMemoryInUpdate { .. } => Phase::Update,
            _ => phase,
        },
        _ => phase,
    };
    // The source is libtorch's own text, which says the same at length.
    Error::OutOfMemory { message, advice: advice(config, phase) }
}

fn is_out_of_memory(error: &LoopError) -> bool {
    matches!(error, LoopError::OutOfMemory { .. } | LoopError::OutOfMemoryInUpdate { .. })
}

fn advice(config: &SftConfig, phase: Phase) -> String {
    let mut remedies = Vec::new();
    let training = &config.training;
    let (train, eval) = (training.per_device_train_batch_size, training.per_device_eval_batch_size);
    match phase {
        Phase::Training if train > 1 => {
            let accumulation = 2 * training.gradient_accumulation_steps;
            remedies.push(format!(
                "`per_device_train_batch_size` {} with `gradient_accumulation_steps` {accumulation}, which is the same step",
                train / 2
            ));
        }
        Phase::Evaluation if eval > 1 => remedies.push(format!("`per_device_eval_batch_size` {}", eval / 2)),
        Phase::Training | Phase::Update | Phase::Evaluation | Phase::Loading => {}
    }
    if matches!(phase, Phase::Training | Phase::Update) && config.model.chosen_recompute() != Some(Recompute::Block) {
        remedies.push("`recompute` block".to_owned());
    }
    if matches!(phase, Phase::Training | Phase::Evaluation) {
        let limit = config.prepare.max_length.filter(|length| *length > 0);
        let now = limit.map_or_else(|| "no limit".to_owned(), |length| length.to_string());
        remedies.push(format!("a smaller `max_length` (now {now})"));
    }
    if phase != Phase::Evaluation {
        match (config.optimizer.optim, config.optimizer.galore()) {
            (optim, _) if !optim.is_projected() => remedies.push("`optim` galore_adamw".to_owned()),
            (_, Ok(Some(galore))) => {
                remedies.push(format!("a lower rank in `optim_args` (now {})", galore.rank));
            }
            _ => {}
        }
    }
    if matches!(phase, Phase::Loading | Phase::Update) {
        if config.model.dtype != WeightDtype::BFloat16 {
            remedies.push("`dtype` bfloat16".to_owned());
        }
        remedies.push("a device with more memory".to_owned());
    }
    format!("what helps: {}", remedies.join(", or "))
}

/// Looks through an error and its sources.
fn recognise(error: &(dyn StdError + 'static)) -> Option<OutOfMemory> {
    let mut source = Some(error);
    while let Some(error) = source {
        // An error of this kind has its own words, and its source those of libtorch.
        if let Some(OutOfMemory { device, requested_bytes, free_bytes, total_bytes, .. }) = error.downcast_ref() {
            return Some(OutOfMemory {
                device: device.clone(),
                requested_bytes: *requested_bytes,
                free_bytes: *free_bytes,
                total_bytes: *total_bytes,
                source: None,
            });
        }
        if let Some(found) = AllocationFailure::recognise(&error.to_string()) {
            return Some(described(found));
        }
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory) {
            let location = MemoryLocation::Host;
            let failure = AllocationFailure { location, requested_bytes: None, total_bytes: None, free_bytes: None };
            return Some(described(failure));
        }
        source = error.source();
    }
    None
}

fn described(failure: AllocationFailure) -> OutOfMemory {
    let AllocationFailure { location, requested_bytes, total_bytes, free_bytes } = failure;
    let (device, free_bytes, total_bytes) = match location {
        MemoryLocation::Cuda(index) => {
            let device = index.map_or_else(|| "the GPU".to_owned(), |index| format!("cuda:{index}"));
            (device, free_bytes, total_bytes)
        }
        MemoryLocation::Host => {
            let memory = host::memory();
            ("the CPU".to_owned(), memory.free_bytes, memory.total_bytes)
        }
    };
    OutOfMemory { device, requested_bytes, free_bytes, total_bytes, source: None }
}

#[cfg(test)]
mod tests;
