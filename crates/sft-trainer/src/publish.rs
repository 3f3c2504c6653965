//! The end of a run: the best model, or the final one, and the result files.

use crate::Error;
use crate::config::SftConfig;
use crate::fingerprint::RUN_FILE;
use crate::learner::SftLearner;
use checkpoint_callbacks::{Publication, publish_final, remove_final_model, write_json, write_results};
use sft_data::TOKENIZER_FILES;
use std::path::Path;
use tracing::info;
use trainer_core::{SaveReport, SaveStrategy, TrainOutput, TrainerState};

pub(crate) fn publish(config: &SftConfig, output: &TrainOutput, learner: &SftLearner) -> Result<(), Error> {
    write_all(config, output, learner).map_err(|error| match error {
        Error::Checkpoints(source) => {
            let newest = output.saves.last_checkpoint.as_deref();
            Error::Checkpoints(source.after_training(newest, output.state.best_model_checkpoint.as_deref()))
        }
        other => other,
    })
}

fn write_all(config: &SftConfig, output: &TrainOutput, learner: &SftLearner) -> Result<(), Error> {
    let output_dir = &config.training.output_dir;
    let state = &output.state;
    if output.num_steps_this_session == 0 && was_finished(output_dir, state) {
        info!("nothing left to train: model and results in {} are those of the run", output_dir.display());
        return Ok(());
    }
    remove_final_model(output_dir)?;
    let mut evaluation = output.eval_metrics.as_ref();
    // Without saves there is no best checkpoint. One that lies here is of an earlier run.
    let saves = config.training.save_strategy != SaveStrategy::No;
    match (&state.best_model_checkpoint, state.best_metric) {
        (Some(best), Some(metric)) if saves => {
            checkpoint_callbacks::publish(best, output_dir, publication())?;
            evaluation = state.best_evaluation().or(evaluation);
            info!("best checkpoint: {} ({} {metric:.6})", best.display(), config.training.best_metric_key());
        }
        _ => {
            publish_final(output_dir, state.global_step, learner.write_model()?, publication())?;
        }
    }
    write_results(output_dir, &output.metrics, evaluation)?;
    // The last file: it says that this run has published everything.
    write_json(output_dir, TrainerState::FILE_NAME, state)?;
    info!("model and tokenizer saved in {}", output_dir.display());

    let SaveReport { num_saved, num_failed, last_error, .. } = &output.saves;
    match (num_saved, last_error) {
        (0, Some(last_error)) => Err(Error::NothingSaved {
            num_failed: *num_failed,
            last_error: last_error.clone(),
            output_dir: output_dir.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether an earlier process published this very run. A state of another run in the same folder
/// has another history.
fn was_finished(output_dir: &Path, state: &TrainerState) -> bool {
    TrainerState::load(&output_dir.join(TrainerState::FILE_NAME)).is_ok_and(|finished| {
        finished.global_step == state.global_step && finished.log_history.starts_with(&state.log_history)
    })
}

/// The files of a model's folder beside its weights.
fn publication() -> Publication<'static> {
    const MODEL_FILES: [&str; TOKENIZER_FILES.len() + 1] = {
        let mut names = ["generation_config.json"; TOKENIZER_FILES.len() + 1];
        let (_, tokenizer) = names.split_at_mut(1);
        tokenizer.copy_from_slice(&TOKENIZER_FILES);
        names
    };
    Publication { not_published: &[RUN_FILE], model_files: &MODEL_FILES }
}
