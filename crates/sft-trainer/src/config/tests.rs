use super::*;
use causal_lm::{AttentionKind, CudaGraphs, Recompute, WeightDtype};
use galore_optim::{
    AdamConfig, ApolloScaling, MomentDtype, RefreshTiming, SubspaceSolver, TargetModules, WeightUpdate,
};
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
        "packing_strategy": "tight", "report_to": "wandbee", "unheard_of": 1,
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

#[test]
fn optimizers_have_the_names_and_defaults_of_transformers() {
    let config = |options| resolve(options).unwrap().optimizer;
    for (given, written, epsilon) in [
        ("galore_adamw", "galore_adamw", 1e-6),
        ("galore_adamw_8bit", "galore_adamw_8bit", 1e-8),
        ("galore_adafactor", "galore_adafactor", 1e-8),
        ("adamw_torch", "adamw_torch", 1e-8),
        ("adamw_torch_fused", "adamw_torch", 1e-8),
        ("adamw_8bit", "adamw_8bit", 1e-8),
        ("adamw_bnb_8bit", "adamw_8bit", 1e-8),
        ("adafactor", "adafactor", 1e-8),
        ("apollo_adamw", "apollo_adamw", 1e-8),
        ("apollo_mini", "apollo_mini", 1e-8),
    ] {
        let optimizer = config(json!({ "optim": given }));
        assert_eq!((optimizer.optim.to_string().as_str(), optimizer.adam().epsilon), (written, epsilon), "{given}");
        let is_projected = given.starts_with("galore") || given.starts_with("apollo");
        assert_eq!(optimizer.galore().unwrap().is_some(), is_projected, "{given}");
    }
    let apollo = config(json!({ "optim": "apollo_adamw", "optim_args": "scale_type=tensor, proj=svd, rank=64" }));
    let galore = apollo.galore().unwrap().unwrap();
    assert_eq!((galore.rank, galore.update_proj_gap, galore.scale), (64.into(), 200, 1.0.into()));
    assert_eq!(galore.subspace, SubspaceSolver::Svd);
    assert_eq!(apollo.apollo_scaling().unwrap(), Some(ApolloScaling::Tensor));
    let mini = config(json!({ "optim": "apollo_mini" }));
    let galore = mini.galore().unwrap().unwrap();
    assert_eq!((galore.rank, galore.scale, galore.subspace), (1.into(), 128.0.into(), SubspaceSolver::Random));
    assert_eq!(mini.apollo_scaling().unwrap(), Some(ApolloScaling::Tensor));
    assert_eq!(config(json!({ "optim_state_dtype": "8bit" })).moments(), Some(MomentDtype::Blockwise8bit));
    assert_eq!(config(json!({ "optim": "adamw_8bit" })).moments(), Some(MomentDtype::Blockwise8bit));
}

#[test]
fn what_an_optimizer_cannot_use_is_refused() {
    for (options, expected) in [
        (json!({ "optim": "galore_adamw_8bit_layerwise" }), "use galore_adamw_8bit,"),
        (json!({ "optim": "apolo_adamw" }), "nearest: apollo_adamw"),
        (json!({ "optim": "lion" }), "known: galore_adamw, galore_adamw_8bit"),
        (json!({ "optim": "adamw_8bit", "optim_state_dtype": "float32" }), "adamw_8bit has 8bit"),
        (json!({ "optim": "adafactor", "adam_beta1": 0.8 }), "adafactor has none of them"),
        (json!({ "optim": "adafactor", "optim_args": "rank=4" }), "optim_args is set"),
        (json!({ "optim": "apollo_adamw", "optim_args": "scale_type=row" }), "scale_type = row"),
        (json!({ "optim": "apollo_adamw", "optim_args": "fira=true" }), "choose galore_adamw"),
        (json!({ "optim": "apollo_adamw", "optim_args": "rnk=4" }), "rank"),
        (json!({ "optim": "galore_adafactor", "optim_args": "moments=transport" }), "moments must be keep"),
        (json!({ "optim_state_dtype": "4bit" }), "`compact`"),
    ] {
        let message = message(options);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn reports_that_are_not_written_are_told() {
    let told = |value| resolve(json!({ "report_to": value })).unwrap().run.unwritten_reports();
    assert_eq!((told(json!(null)), told(json!("none")), told(json!("all"))), (None, None, None));
    let line = told(json!(["wandb", "tensorboard"])).unwrap();
    assert!(line.starts_with("report_to: wandb needs that service's own"), "{line}");
    assert!(message(json!({ "report_to": ["wandb", "w&b"] })).contains("w&b is not known"));
}

#[test]
fn a_run_may_go_on_if_it_can() {
    let resume = |value| resolve(json!({ "resume_from_checkpoint": value })).unwrap().run.resume_from_checkpoint;
    assert_eq!(resume(json!("auto")), ResumeFrom::NewestIfAny);
    assert_eq!(serde_json::to_value(ResumeFrom::NewestIfAny).unwrap(), json!("auto"));
    assert_eq!(resume(json!("out/auto")), ResumeFrom::Checkpoint("out/auto".into()));
}

#[test]
fn a_model_is_pushed_to_a_name_that_can_be_and_its_token_is_not_shown() {
    let config = resolve(json!({ "push_to_hub": "true", "hub_strategy": "end", "hub_token": "secret" })).unwrap();
    assert_eq!(config.push.repo_id(&config.training.output_dir), "o");
    assert_eq!(config.push.hub_strategy, HubStrategy::End);
    assert!(!format!("{config:?}").contains("secret"));
    let told = message(json!({ "push_to_hub": true, "hub_model_id": "a/b/c" }));
    assert!(told.contains("push_to_hub is true: \"a/b/c\" cannot be the name of a repository"), "{told}");
    assert!(
        message(json!({ "hub_strategy": "always" })).contains("hub_strategy is \"always\": use `end`, `every_save`")
    );
}
