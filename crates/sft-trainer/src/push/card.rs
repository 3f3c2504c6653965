//! The model card: `README.md` with the metadata that the hub reads.

use crate::config::SftConfig;
use crate::hub::is_repo_id;
use std::fmt::Write;
use std::path::Path;
use trainer_core::TrainerState;

pub(super) const FILE_NAME: &str = "README.md";

/// Writes the card into the output folder, unless there is a file of its name, which may be the
/// user's.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_card(config: &SftConfig, state: &TrainerState) -> std::io::Result<()> {
    let path = config.training.output_dir.join(FILE_NAME);
    if path.exists() { Ok(()) } else { std::fs::write(path, card(config, state)) }
}

fn card(config: &SftConfig, state: &TrainerState) -> String {
    // A path of this machine says nothing on the hub.
    let on_hub = |name: &str| is_repo_id(name) && name.contains('/') && !Path::new(name).exists();
    let (model, dataset) = (&config.model.model_name, &config.dataset.dataset_name);
    let mut text = "---\nlibrary_name: transformers\npipeline_tag: text-generation\n".to_owned();
    if on_hub(model) {
        let _ = writeln!(text, "base_model: {model}");
    }
    if on_hub(dataset) {
        let _ = writeln!(text, "datasets:\n- {dataset}");
    }
    text += "tags:\n- generated_from_trainer\n- sft\n---\n\n";
    let named = |name: &str| if on_hub(name) { format!("`{name}`") } else { "a local folder".to_owned() };
    let _ = writeln!(
        text,
        "# {}\n\nSupervised fine-tuning of {} on {}.\n",
        config.push.repo_id(&config.training.output_dir),
        named(model),
        named(dataset)
    );
    let training = &config.training;
    text += "| option | value |\n|---|---|\n";
    for (name, value) in [
        ("optim", config.optimizer.optim.to_string()),
        ("learning_rate", training.learning_rate.to_string()),
        ("lr_scheduler_type", training.lr_scheduler_type.to_string()),
        ("per_device_train_batch_size", training.per_device_train_batch_size.to_string()),
        ("gradient_accumulation_steps", training.gradient_accumulation_steps.to_string()),
        ("seed", training.seed.to_string()),
    ] {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let _ = writeln!(text, "\nTrained for {} steps ({:.2} epochs).", state.global_step, state.epoch);
    if let (Some(metric), Some(step)) = (state.best_metric, state.best_global_step) {
        let _ = writeln!(text, "The model is that of step {step}: {} {metric:.4}.", training.best_metric_key());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_what_the_hub_knows_and_no_path_of_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = SftConfig::new("owner/base", folder.path());
        config.dataset.dataset_name = folder.path().display().to_string();
        let state = TrainerState {
            global_step: 9,
            epoch: 3.0,
            best_metric: Some(1.25),
            best_global_step: Some(6),
            ..TrainerState::default()
        };
        write_card(&config, &state).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE_NAME)).unwrap();
        assert!(text.starts_with("---\nlibrary_name: transformers\n") && text.contains("\nbase_model: owner/base\n"));
        assert!(text.contains("on a local folder") && !text.contains("datasets:"), "{text}");
        assert!(text.contains("The model is that of step 6: eval_loss 1.2500."), "{text}");
        std::fs::write(folder.path().join(FILE_NAME), "mine").unwrap();
        write_card(&config, &state).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE_NAME)).unwrap(), "mine");
    }
}
