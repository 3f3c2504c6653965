//! Bad command lines and configuration files.

use super::*;

#[test]
fn flags() -> Result<()> {
    check(&[
        Refused { what: "no flags at all", prepare: |_| Ok(Training::bare()), names: &["--model_name", "output_dir"] },
        Refused {
            what: "an unknown flag",
            prepare: |case| Ok(sound(case).flags("--learning_rat 1e-3")),
            names: &["--learning_rat", "--learning_rate"],
        },
        Refused { what: "a stray word", prepare: |case| Ok(sound(case).flags("stray")), names: &["stray"] },
        Refused {
            what: "a value of the wrong type",
            prepare: |case| Ok(sound(case).flags("--num_train_epochs many")),
            names: &["--num_train_epochs", "many"],
        },
        Refused {
            what: "a learning rate below zero",
            prepare: |case| Ok(sound(case).flags("--learning_rate=-1")),
            names: &["learning_rate", "-1"],
        },
        Refused {
            what: "a batch of none",
            prepare: |case| Ok(sound(case).flags("--per_device_train_batch_size 0")),
            names: &["per_device_train_batch_size", "0"],
        },
        Refused {
            what: "an unknown key in optim_args",
            prepare: |case| Ok(sound(case).flag("optim_args", "rnk=4, scale=1")),
            names: &["rnk", "rank"],
        },
        Refused {
            what: "a bad value in optim_args",
            prepare: |case| Ok(sound(case).flag("optim_args", "rank=4, scale=large")),
            names: &["scale", "large"],
        },
        Refused { what: "rank 0", prepare: |case| Ok(sound(case).flag("optim_args", "rank=0")), names: &["rank", "0"] },
        Refused {
            what: "optim_args without the optimizer they belong to",
            prepare: |case| Ok(sound(case).flags("--optim adamw_torch --optim_args rank=4")),
            names: &["optim_args", "adamw_torch", "galore_adamw"],
        },
        Refused {
            what: "target modules that match nothing",
            prepare: |case| Ok(sound(case).flags("--optim_target_modules conv")),
            names: &["conv"],
        },
        Refused {
            what: "an unknown optimizer",
            prepare: |case| Ok(sound(case).flags("--optim lion")),
            names: &["optim", "lion", "galore_adamw", "adamw_torch"],
        },
        Refused {
            what: "a device that is not there",
            prepare: |case| {
                let model = goldens::model("qwen2");
                let training = Training::on_the_default_device(&model, &goldens::words(), &case.output_dir());
                Ok(training.flags("--device tpu"))
            },
            names: &["device", "tpu", "cpu"],
        },
        Refused {
            what: "an unknown key in a configuration file",
            prepare: |case| {
                std::fs::write(case.path("run.yaml"), "learning_rte: 1e-3\n")?;
                Ok(sound(case).flag("config", case.path("run.yaml").display()))
            },
            names: &["run.yaml", "learning_rte", "learning_rate"],
        },
        Refused {
            what: "evaluations and checkpoints that never meet",
            prepare: |case| {
                let strategies = "--load_best_model_at_end --eval_strategy epoch --save_strategy steps";
                Ok(sound(case).flags(strategies))
            },
            names: &["load_best_model_at_end", "save_strategy"],
        },
    ])
}

#[test]
fn all_that_is_wrong_with_the_flags_is_said_at_once() -> Result<()> {
    let case = Case::new()?;
    let training = sound(&case).flags("--optim lion --learning_rate=-1 --dtype int8 --gradient_accumulation_steps 0");
    let finished = training.run()?;
    let message = finished.failed_with(2)?;
    for field in ["optim", "learning_rate", "dtype", "gradient_accumulation_steps"] {
        assert!(message.contains(field), "{field}: {message}");
    }
    Ok(())
}

#[test]
fn help_and_version_are_no_errors() -> Result<()> {
    let help = Training::bare().flags("--help").run()?.succeeded()?;
    assert!(help.stdout.contains("--model_name") && help.stdout.contains("--bf16_weight_update"), "{}", help.stdout);
    assert_eq!(help.stderr, "");
    assert!(!help.stdout.contains('\u{1b}'), "a file has no colours: {}", help.stdout);
    assert!(Training::bare().flags("--version").run()?.succeeded()?.stdout.starts_with("train_and_save "));
    Ok(())
}

/// A recipe of TRL: what has no effect is accepted, and all that has to go is named at once, before
/// anything is read.
#[test]
fn a_recipe_of_trl_is_refused_in_one_message() -> Result<()> {
    let case = Case::new()?;
    let recipe = case.path("trl.yaml");
    let text = "overwrite_output_dir: true\nlog_level: info\ndataset_num_proc: 8\npush_to_hub: false\n\
                gradient_checkpointing_kwargs: {use_reentrant: false}\nreport_to: [wandb, tensorbored]\n\
                dataset_mixture: {seed: 0}\nloss_type: dft\nmax_length: many\nlearning_rate: '2e-5'\n";
    std::fs::write(&recipe, text)?;
    let finished = sound(&case).flag("config", recipe.display()).run()?;
    let message = finished.failed_with(2)?;
    for expected in ["trl.yaml", "tensorbored is not known", "dataset_mixture", "loss_type", "max_length is \"many\""] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    for accepted in ["overwrite_output_dir", "log_level", "dataset_num_proc", "push_to_hub", "learning_rate"] {
        assert!(!message.contains(accepted), "{accepted}: {message}");
    }
    Ok(())
}
