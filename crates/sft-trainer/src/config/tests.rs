use super::*;
use causal_lm::{AttentionKind, CudaGraphs, Recompute, WeightDtype};
use galore_optim::{AdamConfig, RefreshTiming, SubspaceSolver, TargetModules, WeightUpdate};
use serde_json::json;
use tch::Kind;
use trainer_core::Schedule;

fn resolve(options: Value) -> Result<SftConfig, Error> {
    let Value::Object(mut all) = json!({ "model_name": "m", "output_dir": "o" }) else { panic!() };
    all.extend(options.as_object().unwrap().clone());
    SftConfig::from_options(all)
}

fn message(options: Value) -> String {
    resolve(options).unwrap_err().to_string()
}

#[test]
fn the_two_required_options_are_the_documented_recipe() {
    let config = resolve(json!({})).unwrap();
    assert_eq!(config, SftConfig::new("m", "o"));
    assert_eq!(config.dataset.dataset_name, "yimeng521/sunny_datasets");
    let model = &config.model;
    assert_eq!((model.dtype, model.attn_implementation), (WeightDtype::BFloat16, AttentionKind::Flash));
    assert_eq!(model.chosen_recompute(), None);
    let galore = config.optimizer.galore().unwrap().unwrap();
    assert_eq!((galore.rank, galore.update_proj_gap, galore.scale), (1024.into(), 500, 1.8.into()));
    assert_eq!(config.optimizer.targets(), TargetModules::List(vec!["attn".into(), "mlp".into()]));
    assert_eq!(config.optimizer.adam(), AdamConfig::galore_default());
    assert_eq!(config.optimizer.weight_update(Kind::BFloat16, 42), WeightUpdate::Stochastic { seed: 42 });
    assert_eq!(config.optimizer.weight_update(Kind::Half, 42), WeightUpdate::Exact);
    assert_eq!(config.prepare.max_length, Some(1024));
    let recipe = TrainingArguments::documented_recipe();
    assert_eq!(config.training, TrainingArguments { output_dir: "o".into(), ..recipe });
}

#[test]
fn recomputing_follows_gradient_checkpointing_unless_named() {
    let chosen = |options| resolve(options).map(|config| config.model.chosen_recompute());
    assert_eq!(chosen(json!({ "gradient_checkpointing": true })).unwrap(), None);
    assert_eq!(chosen(json!({ "gradient_checkpointing": false })).unwrap(), Some(Recompute::None));
    assert_eq!(chosen(json!({ "recompute": "block" })).unwrap(), Some(Recompute::Block));
    assert_eq!(
        chosen(json!({ "recompute": "cheap", "gradient_checkpointing": true })).unwrap(),
        Some(Recompute::Cheap)
    );
    assert_eq!(chosen(json!({ "recompute": "none", "gradient_checkpointing": false })).unwrap(), Some(Recompute::None));
    for options in [json!({ "recompute": "all" }), json!({ "recompute": "block", "gradient_checkpointing": false })] {
        assert!(message(options.clone()).contains("recompute"), "{options}");
    }
}

#[test]
fn cuda_graphs_have_three_values() {
    let chosen = |options| resolve(options).map(|config| config.model.cuda_graphs.0);
    assert_eq!(chosen(json!({})).unwrap(), None);
    assert_eq!(chosen(json!({ "cuda_graphs": "auto" })).unwrap(), None);
    assert_eq!(chosen(json!({ "cuda_graphs": "on" })).unwrap(), Some(CudaGraphs::On));
    assert_eq!(chosen(json!({ "cuda_graphs": "off" })).unwrap(), Some(CudaGraphs::Off));
    assert!(message(json!({ "cuda_graphs": "true" })).contains("cuda_graphs"));
}

#[test]
fn epsilon_follows_the_optimizer_unless_given() {
    let epsilon = |options| resolve(options).unwrap().optimizer.adam().epsilon;
    assert_eq!(epsilon(json!({ "optim": "galore_adamw" })), 1e-6);
    assert_eq!(epsilon(json!({ "optim": "adamw_torch" })), 1e-8);
    assert_eq!(epsilon(json!({ "optim": "adamw_torch_fused" })), 1e-8);
    assert_eq!(epsilon(json!({ "optim": "galore_adamw", "adam_epsilon": 1e-5 })), 1e-5);
}

#[test]
fn refreshes_are_staggered_and_solved_as_asked() {
    let resolved = |refresh: &str, solver: &str| {
        let config = resolve(json!({ "galore_refresh": refresh, "galore_solver": solver }))?;
        let galore = config.optimizer.galore()?.unwrap();
        Ok::<_, Error>((galore.rank, galore.refresh, galore.subspace))
    };
    assert_eq!(resolved("together", "auto").unwrap(), (1024.into(), RefreshTiming::Together, SubspaceSolver::Auto));
    assert_eq!(resolved("staggered", "svd").unwrap(), (1024.into(), RefreshTiming::Staggered, SubspaceSolver::Svd));
    let both = resolved("sometimes", "qr").unwrap_err().to_string();
    assert!(both.contains("sometimes") && both.contains("`staggered`"), "{both}");
    assert!(both.contains("qr") && both.contains("`eigenvectors`"), "{both}");
    let adamw = message(json!({ "optim": "adamw_torch", "galore_refresh": "staggered" }));
    assert!(adamw.contains("galore_refresh") && adamw.contains("belongs to galore_adamw"), "{adamw}");
}

#[test]
fn all_problems_come_at_once_in_one_line() {
    let options = json!({
        "optim": "lion", "optim_args": "rank=0", "device": "tpu", "dtype": "int8", "learning_rate": -1.0,
        "packing_strategy": "tight", "report_to": "wandb", "unheard_of": 1,
    });
    let message = SftConfig::from_options(options.as_object().unwrap().clone()).unwrap_err().to_string();
    for expected in [
        "model_name",
        "output_dir",
        "optim is \"lion\"",
        "rank",
        "device is \"tpu\"",
        "dtype is \"int8\"",
        "learning_rate",
        "packing_strategy",
        "report_to",
        "unknown option unheard_of",
    ] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(!message.contains('\n'));
}

#[test]
fn bad_optim_args_name_the_key() {
    for (text, expected) in [("rnk=4", "rank"), ("rank=many", "many"), ("rank", "rank")] {
        let message = message(json!({ "optim_args": text }));
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(message(json!({ "optim": "adamw_torch", "optim_args": "rank=4" })).contains("belongs to galore_adamw"));
}

#[test]
fn what_cannot_be_is_refused() {
    for (options, expected) in [
        (json!({ "per_device_train_batch_size": u64::MAX }), "per_device_train_batch_size"),
        (json!({ "gradient_accumulation_steps": u64::MAX }), "gradient_accumulation_steps"),
        (json!({ "pad_to_multiple_of": u64::MAX }), "pad_to_multiple_of"),
        (json!({ "packing": true, "padding_free": false }), "packed rows are not padded"),
        (json!({ "padding_free": "sometimes" }), "padding_free is \"sometimes\""),
        (json!({ "padding_free": true, "pad_to_multiple_of": 8 }), "there is no padding with padding_free true"),
        (json!({ "test_size": -1.0 }), "test_size"),
        (json!({ "assistant_only_loss": true, "completion_only_loss": true }), "completion_only_loss"),
        (json!({ "use_cpu": true, "device": "cuda:1" }), "not together with a CUDA device"),
        (json!({ "loss_spike_factor": 1.0 }), "loss_spike_factor is 1: use a number above 1"),
        (json!({ "early_stopping_threshold": 0.1 }), "no effect without early_stopping_patience"),
        (json!({ "early_stopping_patience": 2, "do_eval": false }), "needs evaluations"),
    ] {
        let message = message(options);
        assert!(message.contains(expected), "{message}");
    }
}

/// As in Python, where None is a value: no limit, keep all.
#[test]
fn null_unsets_what_can_be_unset_and_keeps_the_rest() {
    let config = resolve(json!({ "max_length": null, "save_total_limit": null, "learning_rate": null })).unwrap();
    assert_eq!((config.prepare.max_length, config.training.save_total_limit), (None, None));
    assert_eq!(config.training.learning_rate, 1e-5);
    assert_eq!(resolve(json!({ "save_total_limit": 0 })).unwrap().training.save_total_limit, None);
}

/// Every option whose default in TRL 1.16 and transformers 5.17 is None, or that takes None.
#[test]
fn null_is_what_none_is_in_python() {
    let recipe = SftConfig::new("m", "o");
    let unchanged = [
        "attn_implementation",
        "bf16",
        "chat_template_path",
        "completion_only_loss",
        "dataset_config",
        "eos_token",
        "eval_steps",
        "greater_is_better",
        "lr_scheduler_kwargs",
        "metric_for_best_model",
        "pad_to_multiple_of",
        "report_to",
        "resume_from_checkpoint",
        "test_size",
    ];
    for name in unchanged {
        assert!(SftConfig::option_names().contains(name), "{name}");
        assert_eq!(resolve(json!({ name: null })).unwrap(), recipe, "{name}");
    }
    assert_eq!(resolve(json!({ "max_length": null })).unwrap().prepare.max_length, None);
    assert_eq!(resolve(json!({ "save_total_limit": null })).unwrap().training.save_total_limit, None);
    assert_eq!(resolve(json!({ "dtype": null })).unwrap().model.dtype.to_string(), "auto");
    let galore = |options| resolve(options).unwrap().optimizer.galore().unwrap().map(|galore| galore.rank);
    assert_eq!(galore(json!({ "optim_args": null })), Some(128.into()));
    assert_eq!(galore(json!({ "optim_args": null, "optim": "adamw_torch" })), None);
    resolve(json!({ "optim_target_modules": null, "optim": "adamw_torch" })).unwrap();
    assert!(message(json!({ "optim_target_modules": null })).contains("optim_target_modules is null"));
    assert!(message(json!({ "dataset_name": null })).contains("dataset_name is null"));
}

#[test]
fn what_is_given_goes_before_the_default_of_another_option() {
    let warmup = |options| Schedule::new(&resolve(options).unwrap().training, 1000).warmup_steps();
    assert_eq!(warmup(json!({})), 100);
    assert_eq!(warmup(json!({ "warmup_steps": 0 })), 0);
    assert_eq!(warmup(json!({ "warmup_steps": 5 })), 5);
    assert_eq!(warmup(json!({ "warmup_ratio": 0.02 })), 20);
    assert_eq!(warmup(json!({ "warmup_steps": null, "warmup_ratio": 0.02 })), 20);
    assert_eq!(warmup(json!({ "warmup_steps": null })), 100);
    let both = json!({ "recompute": "auto", "gradient_checkpointing": false });
    assert!(message(both).contains("leave one of the two out"));
}

#[test]
fn values_are_read_as_pythons_parser_reads_them() {
    let config = resolve(json!({
        "learning_rate": "2e-5", "max_length": "512", "packing": "yes", "bf16": "False", "seed": 7.0,
        "gradient_checkpointing": 0, "lr_scheduler_type": "cosine", "lr_scheduler_kwargs": "{\"num_cycles\": 1}",
        "assistant_only_loss": "t", "eos_token": "1",
    }))
    .unwrap();
    assert_eq!((config.training.learning_rate, config.prepare.max_length), (2e-5, Some(512)));
    assert_eq!((config.prepare.packing, config.model.bf16, config.training.seed), (true, Some(false), 7));
    assert_eq!((config.model.gradient_checkpointing, config.prepare.assistant_only_loss), (false, true));
    assert_eq!(config.training.lr_scheduler_kwargs.num_cycles, Some(1.0));
    assert_eq!(config.tokenizer.eos_token.as_deref(), Some("1"), "a text stays a text");
    for (options, expected) in [
        (json!({ "learning_rate": "fast" }), "learning_rate is \"fast\": expected a number"),
        (json!({ "max_length": -1 }), "max_length is -1: expected a whole number of 0 or more"),
        (json!({ "lr_scheduler_kwargs": 3 }), "lr_scheduler_kwargs is 3: expected an object with any of the keys"),
        (json!({ "packing": "maybe" }), "packing is \"maybe\": expected true or false"),
    ] {
        let message = message(options);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn an_option_that_decides_another_does_so_however_it_is_set() {
    let mut config = SftConfig::new("m", "o");
    config.run.do_eval = false;
    config.training.seed = 7;
    config.resolve();
    assert_eq!(config, resolve(json!({ "do_eval": false, "seed": 7 })).unwrap());
    assert_eq!(config.dataset.evaluation, Evaluation::Off);
    assert_eq!((config.dataset.seed, config.training.eval_strategy), (7, IntervalStrategy::No));
}
