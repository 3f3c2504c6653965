//! Each file runs, or stops with one line that lists everything.

use super::*;
use std::path::PathBuf;

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/sft-trainer/tests/recipes").join(name)
}

fn read(name: &str) -> (anyhow::Result<SftConfig>, Option<String>) {
    let arguments = ["t", "--config", recipe(name).to_str().unwrap()].map(OsString::from);
    match parse(arguments) {
        Ok(Request::Train { settings, .. }) => {
            let warning = settings.warning();
            (settings.config().map_err(Into::into), warning)
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => (Err(error), None),
    }
}

#[test]
fn recipes_that_run() {
    let (config, warning) = read("open_r1_distill.yaml");
    let config = config.unwrap();
    assert_eq!(config.training.lr_scheduler_type, SchedulerType::CosineWithMinLr);
    assert_eq!(config.training.lr_scheduler_kwargs.min_lr_rate, Some(0.1));
    assert_eq!(config.training.eval_strategy, IntervalStrategy::No);
    assert!(config.run.unwritten_reports().unwrap().contains("wandb"));
    let warning = warning.unwrap();
    for name in ["use_liger_kernel", "wandb_entity", "overwrite_output_dir"] {
        assert!(warning.contains(name), "{name}: {warning}");
    }

    let (config, warning) = read("trl_sft.yaml");
    let config = config.unwrap();
    assert_eq!((config.training.learning_rate, config.training.warmup_steps), (2e-5, Some(0.03)));
    assert_eq!((config.training.row_order_seed(), config.training.save_only_model), (5, true));
    assert_eq!(config.training.lr_scheduler_kwargs.num_decay_steps, Some(10));
    assert_eq!(config.run.resume_from_checkpoint, sft_trainer::config::ResumeFrom::NewestIfAny);
    assert_eq!((warning, config.push.push_to_hub), (None, false));
}

#[test]
fn recipes_that_stop_say_everything_in_one_line() {
    for (name, expected) in [
        ("handbook_mixture.yaml", &["chat_template is", "dataset_mixture is"][..]),
        ("handbook_mixer.yaml", &["dataset_mixer is", "dataset_splits is", "auto_insert_empty_system_msg is"]),
        (
            "handbook_long.yaml",
            &["trust_remote_code is true", "chat_template is", "dataset_mixture is", "packing_strategy is \"ffd\""],
        ),
        ("open_r1_prompted.yaml", &["system_prompt is", "benchmarks is", "callbacks is"]),
        ("trl_lora.yaml", &["use_peft is true", "load_in_4bit is true", "neftune_noise_alpha is 5"]),
        (
            "llama_factory_full.yaml",
            &["is a file of LLaMA-Factory; write model_name_or_path as model_name, dataset as dataset_name, \
                 cutoff_len as max_length, val_size as test_size; leave out stage, finetuning_type, template, \
                 max_samples, overwrite_cache, plot_loss"],
        ),
        (
            "llama_factory_galore.yaml",
            &["use_galore as optim galore_adamw, galore_target as optim_target_modules, galore_rank as rank in"],
        ),
        (
            "axolotl_full.yaml",
            &[
                "is a file of Axolotl; write base_model as model_name, datasets as dataset_name",
                "micro_batch_size as per_device_train_batch_size",
                "; leave out model_type, strict, dataset_prepared_path, pad_to_sequence_len, special_tokens",
            ],
        ),
        ("axolotl_adapter.yaml", &["is a file of Axolotl", "; leave out adapter"]),
    ] {
        let message = format!("{:#}", read(name).0.unwrap_err());
        for expected in expected {
            assert!(message.contains(expected), "{name}: {expected}: {message}");
        }
        assert!(message.contains(name) && !message.contains('\n'), "{name}: {message}");
        assert!(!message.contains("unknown key"), "{name}: {message}");
    }
}
