//! When memory runs out: libtorch's error as the loop's, and what a user can do.

use crate::failure::Failure;
use crate::settings::{OptimizerKind, Settings};
use causal_lm::Recompute;
use std::error::Error;
use torch_ext::Place;
use trainer_core::{BoxError, Error as LoopError, OutOfMemory};

/// The outcome with an error that says of memory what the loop understands.
///
/// # Errors
/// Those of the outcome.
pub fn noted<T>(outcome: Result<T, BoxError>) -> Result<T, BoxError> {
    outcome.map_err(|error| match recognise(&*error) {
        Some(found) => Box::new(OutOfMemory { source: Some(error), ..found }),
        None => error,
    })
}

/// The error, in one line and with advice if it is about memory.
pub fn explained(error: anyhow::Error, settings: &Settings, phase: Phase) -> anyhow::Error {
    if error.is::<Failure>() {
        return error; // explained already
    }
    let loops = error.downcast_ref::<LoopError>();
    let message = match loops {
        Some(found @ (LoopError::OutOfMemory { .. } | LoopError::OutOfMemoryInUpdate { .. })) => found.to_string(),
        _ => match recognise(&*error) {
            Some(found) => found.to_string(),
            None => return error,
        },
    };
    let phase = match loops {
        Some(LoopError::OutOfMemory { action: "evaluation", .. }) => Phase::Evaluation,
        Some(LoopError::OutOfMemoryInUpdate { .. }) => Phase::Update,
        _ => phase,
    };
    // The cause is libtorch's own text, which says the same at length.
    anyhow::anyhow!("{message}; {}", advice(settings, phase))
}

/// What the memory was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Loading,
    /// Forward and backward.
    Training,
    /// The optimizer's, when that of forward and backward is free again: no batch is too large for
    /// it.
    Update,
    Evaluation,
}

fn advice(settings: &Settings, phase: Phase) -> String {
    let mut flags = Vec::new();
    let (train, eval) = (settings.training.per_device_train_batch_size, settings.training.per_device_eval_batch_size);
    match phase {
        Phase::Training if train > 1 => {
            let accumulation = 2 * settings.training.gradient_accumulation_steps;
            flags.push(format!(
                "--per_device_train_batch_size {} with --gradient_accumulation_steps {accumulation}, which is the same step",
                train / 2
            ));
        }
        Phase::Evaluation if eval > 1 => flags.push(format!("--per_device_eval_batch_size {}", eval / 2)),
        Phase::Training | Phase::Update | Phase::Evaluation | Phase::Loading => {}
    }
    if matches!(phase, Phase::Training | Phase::Update) && settings.recompute != Some(Recompute::Block) {
        flags.push("--recompute block".to_owned());
    }
    if matches!(phase, Phase::Training | Phase::Evaluation) {
        let now = settings.prepare.max_length.map_or_else(|| "no limit".to_owned(), |length| length.to_string());
        flags.push(format!("a smaller --max_length (now {now})"));
    }
    match &settings.optimizer.kind {
        OptimizerKind::GaLoreAdamW { galore, .. } if phase != Phase::Evaluation => {
            flags.push(format!("a lower rank in --optim_args (now {})", galore.rank));
        }
        OptimizerKind::AdamW if phase != Phase::Evaluation => flags.push("--optim galore_adamw".to_owned()),
        _ => {}
    }
    if matches!(phase, Phase::Loading | Phase::Update) {
        if settings.dtype != Some(tch::Kind::BFloat16) {
            flags.push("--dtype bfloat16".to_owned());
        }
        flags.push("a device with more memory".to_owned());
    }
    format!("what helps: {}", flags.join(", or "))
}

/// Looks through an error and its causes.
fn recognise(error: &(dyn Error + 'static)) -> Option<OutOfMemory> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An error of this kind has its own words, and its source those of libtorch.
        if let Some(OutOfMemory { device, requested_bytes, free_bytes, total_bytes, .. }) = error.downcast_ref() {
            let (requested_bytes, free_bytes, total_bytes) = (*requested_bytes, *free_bytes, *total_bytes);
            return Some(OutOfMemory {
                device: device.clone(),
                requested_bytes,
                free_bytes,
                total_bytes,
                source: None,
            });
        }
        if let Some(found) = torch_ext::OutOfMemory::recognise(&error.to_string()) {
            return Some(described(found));
        }
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory) {
            let (place, none) = (Place::Host, None);
            return Some(described(torch_ext::OutOfMemory {
                place,
                requested_bytes: none,
                total_bytes: none,
                free_bytes: none,
            }));
        }
        cause = error.source();
    }
    None
}

fn described(found: torch_ext::OutOfMemory) -> OutOfMemory {
    let torch_ext::OutOfMemory { place, requested_bytes, total_bytes, free_bytes } = found;
    let (device, free_bytes, total_bytes) = match place {
        Place::Cuda(index) => {
            (index.map_or_else(|| "the GPU".to_owned(), |index| format!("cuda:{index}")), free_bytes, total_bytes)
        }
        Place::Host => {
            let (free, total) = host_bytes();
            ("the CPU".to_owned(), free, total)
        }
    };
    OutOfMemory { device, requested_bytes, free_bytes, total_bytes, source: None }
}

/// What the process may still have, and in all: the machine's memory, or a limit set for the
/// process.
pub fn host_bytes() -> (Option<u64>, Option<u64>) {
    let machine = (kibibytes("/proc/meminfo", "MemAvailable:"), kibibytes("/proc/meminfo", "MemTotal:"));
    let Some(limit) = address_space_limit().filter(|limit| machine.1.is_none_or(|total| *limit < total)) else {
        return machine;
    };
    let used = kibibytes("/proc/self/status", "VmSize:").unwrap_or(0);
    (Some(limit.saturating_sub(used)), Some(limit))
}

/// A line of one of the system's accounts, in bytes.
fn kibibytes(account: &str, name: &str) -> Option<u64> {
    let account = std::fs::read_to_string(account).ok()?;
    let line = account.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// As set by `ulimit -v` or a batch system.
fn address_space_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::one_line;
    use crate::flags::Flags;

    fn settings(flags: Flags) -> Settings {
        Settings::resolve(Flags { model_name: Some("m".into()), output_dir: Some("o".into()), ..flags }).unwrap()
    }

    fn torch_error() -> BoxError {
        let text = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which 512.00 MiB is \
                    free. Process 1 has more.\nException raised from malloc at a.cpp:1\nframe #0";
        Box::new(causal_lm::Error::Torch(tch::TchError::Torch(text.to_owned())))
    }

    #[test]
    fn the_loop_is_told_and_the_user_is_helped() {
        let noted = noted(Err::<(), _>(torch_error())).unwrap_err();
        let source = *noted.downcast::<OutOfMemory>().unwrap();
        let loops = |action, source| LoopError::OutOfMemory { action, step: 7, rows: 8, source };
        let error =
            explained(loops("forward and backward", source).into(), &settings(Flags::default()), Phase::Training);
        assert_eq!(
            one_line(&error),
            "forward and backward at step 7 with 8 rows in a batch: out of memory on cuda:0: 2.00 GiB were asked for, 512.00 MiB of \
             79.25 GiB are free; what helps: --per_device_train_batch_size 4 with --gradient_accumulation_steps 2, which is the same \
             step, or --recompute block, or a smaller --max_length (now 1024), or a lower rank in --optim_args (now 1024)"
        );
        let source = recognise(&*torch_error()).unwrap();
        let flags = Flags { recompute: Some("none".into()), per_device_eval_batch_size: Some(6), ..Flags::default() };
        let plain = settings(flags);
        let error = one_line(&explained(loops("evaluation", source).into(), &plain, Phase::Training));
        assert!(
            error.ends_with("what helps: --per_device_eval_batch_size 3, or a smaller --max_length (now 1024)"),
            "{error}"
        );
        assert!(advice(&plain, Phase::Training).contains("or --recompute block, or"));

        let (source, checkpoint) = (recognise(&*torch_error()).unwrap(), Some("o/checkpoint-6".into()));
        let error = LoopError::OutOfMemoryInUpdate { step: 7, checkpoint, source };
        assert_eq!(
            one_line(&explained(error.into(), &settings(Flags::default()), Phase::Training)),
            "the optimizer step at step 7: out of memory on cuda:0: 2.00 GiB were asked for, 512.00 MiB of 79.25 GiB are free; the update \
             is half done, so the run ends here, and the last good checkpoint is o/checkpoint-6; what helps: --recompute block, or a lower \
             rank in --optim_args (now 1024), or a device with more memory"
        );
    }

    #[test]
    fn loading_has_its_own_advice_and_other_errors_are_left_alone() {
        let flags = Flags { dtype: Some("float32".into()), optim: Some("adamw_torch".into()), ..Flags::default() };
        let error = anyhow::Error::from_boxed(torch_error()).context("model m");
        let message = one_line(&explained(error, &settings(flags), Phase::Loading));
        let expected = "what helps: --optim galore_adamw, or --dtype bfloat16, or a device with more memory";
        assert!(message.starts_with("out of memory on cuda:0: 2.00 GiB") && message.ends_with(expected), "{message}");

        let other = noted(Err::<(), _>("shapes differ".into())).unwrap_err();
        assert!(!other.is::<OutOfMemory>());
        let other = explained(anyhow::Error::from_boxed(other), &settings(Flags::default()), Phase::Training);
        assert_eq!(one_line(&other), "shapes differ");
    }

    #[test]
    fn the_host_says_what_it_has() {
        let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let found = recognise(&error).unwrap();
        assert_eq!(found.device, "the CPU");
        assert!(found.free_bytes.unwrap() <= found.total_bytes.unwrap());
    }
}
