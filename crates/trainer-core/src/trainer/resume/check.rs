//! Checks of the position in a checkpoint. A file may be damaged or forged: the counts must not
//! overflow when the run continues, and they must not contradict each other.

use super::*;
use crate::progress::{BadSteps, SinceLog};

/// No run reaches this count. Floats hold larger counts inexactly.
const MAX_COUNT: u64 = 1 << 53;

/// Checks a loaded position against itself and against the plan. Its [`DataIdentity`] is already
/// checked.
///
/// [`DataIdentity`]: crate::progress::DataIdentity
pub(super) fn check(plan: &Plan, state: &TrainerState, progress: &Progress, checkpoint: &Path) -> Result<()> {
    let error = |file: &str, field, value: String, expected: &str| {
        Err(Error::SavedValue { path: checkpoint.join(file), field, value, expected: expected.to_owned() })
    };
    let SinceLog { num_steps, correct_tokens, target_tokens, .. } = progress.since_log;
    let BadSteps { in_a_row, total } = progress.bad_steps;
    for (file, field, count) in [
        (TrainerState::FILE_NAME, "global_step", state.global_step),
        (TrainerState::FILE_NAME, "num_input_tokens_seen", state.num_input_tokens_seen),
        (PROGRESS_FILE_NAME, "epoch", progress.epoch),
        (PROGRESS_FILE_NAME, "since_log.num_steps", num_steps),
        (PROGRESS_FILE_NAME, "since_log.correct_tokens", correct_tokens),
        (PROGRESS_FILE_NAME, "since_log.target_tokens", target_tokens),
    ] {
        if count >= MAX_COUNT {
            return error(file, field, count.to_string(), "no run gets to 2^53");
        }
    }
    let (done, in_epoch) = (progress.micro_batches_done, plan.batches_per_epoch);
    if done > in_epoch {
        let expected = format!("an epoch has {in_epoch} micro-batches");
        return error(PROGRESS_FILE_NAME, "micro_batches_done", done.to_string(), &expected);
    }
    for (field, count, most) in [
        ("bad_steps.total", total, state.global_step),
        ("bad_steps.in_a_row", in_a_row, total),
        ("since_log.num_steps", num_steps, state.global_step.saturating_sub(total)),
    ] {
        if count > most {
            let steps = state.global_step;
            let expected = format!("it can be {most} at most after {steps} steps, {total} of them skipped");
            return error(PROGRESS_FILE_NAME, field, count.to_string(), &expected);
        }
    }
    if !(state.epoch.is_finite() && state.epoch >= 0.0) {
        return error(TrainerState::FILE_NAME, "epoch", state.epoch.to_string(), "it must be 0 or more");
    }
    let steps_in_epoch = done.div_ceil(plan.gradient_accumulation_steps) as u64;
    let steps = progress.epoch.checked_mul(plan.steps_per_epoch).and_then(|steps| steps.checked_add(steps_in_epoch));
    if steps != Some(state.global_step) {
        let expected = format!("{PROGRESS_FILE_NAME} is at micro-batch {done} of epoch {}", progress.epoch);
        return error(TrainerState::FILE_NAME, "global_step", state.global_step.to_string(), &expected);
    }
    Ok(())
}
