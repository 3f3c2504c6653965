use super::*;
use galore_optim::{RefreshTiming, SubspaceSolver};

fn flags() -> Flags {
    Flags { model_name: Some("m".into()), output_dir: Some("o".into()), ..Flags::default() }
}

#[test]
fn the_two_required_flags_are_the_documented_recipe() {
    let settings = Settings::resolve(flags()).unwrap();
    assert_eq!(settings.dataset.dataset_name, "yimeng521/sunny_datasets");
    assert_eq!(
        (settings.dtype, settings.attention, settings.recompute),
        (Some(Kind::BFloat16), AttentionKind::Flash, None)
    );
    let OptimizerKind::GaLoreAdamW { galore, targets } = &settings.optimizer.kind else { panic!() };
    assert_eq!((galore.rank, galore.update_proj_gap, galore.scale), (1024, 500, 1.8));
    assert_eq!(*targets, TargetModules::List(vec!["attn".into(), "mlp".into()]));
    assert_eq!(settings.optimizer.adam, AdamConfig::galore_default());
    assert_eq!(settings.optimizer.weight_update, WeightUpdate::Exact);
    assert_eq!(settings.prepare.max_length, Some(1024));
    assert_eq!(settings.training, TrainingArguments { output_dir: "o".into(), ..Default::default() });
}

#[test]
fn recomputing_follows_gradient_checkpointing_unless_named() {
    let resolve = |name: Option<&str>, gradient_checkpointing| {
        let flags = Flags { recompute: name.map(str::to_owned), gradient_checkpointing, ..flags() };
        Settings::resolve(flags).map(|settings| settings.recompute)
    };
    assert_eq!(resolve(None, Some(true)).unwrap(), None);
    assert_eq!(resolve(None, Some(false)).unwrap(), Some(Recompute::None));
    assert_eq!(resolve(Some("block"), None).unwrap(), Some(Recompute::Block));
    assert_eq!(resolve(Some("cheap"), Some(true)).unwrap(), Some(Recompute::Cheap));
    assert_eq!(resolve(Some("none"), Some(false)).unwrap(), Some(Recompute::None));
    for (name, checkpointing) in [("all", None), ("block", Some(false)), ("auto", Some(false))] {
        assert!(resolve(Some(name), checkpointing).unwrap_err().to_string().contains("recompute"), "{name}");
    }
}

#[test]
fn epsilon_follows_the_optimizer_unless_given() {
    let adam = |optim: &str, epsilon| {
        let flags = Flags { optim: Some(optim.into()), adam_epsilon: epsilon, ..flags() };
        Settings::resolve(flags).unwrap().optimizer.adam.epsilon
    };
    assert_eq!(adam("galore_adamw", None), 1e-6);
    assert_eq!(adam("adamw_torch", None), 1e-8);
    assert_eq!(adam("galore_adamw", Some(1e-5)), 1e-5);
}

#[test]
fn refreshes_are_staggered_and_solved_as_asked() {
    let resolved = |refresh: &str, solver: &str| -> anyhow::Result<_> {
        let asked = Flags { galore_refresh: Some(refresh.into()), galore_solver: Some(solver.into()), ..flags() };
        match Settings::resolve(asked)?.optimizer.kind {
            OptimizerKind::GaLoreAdamW { galore, .. } => Ok((galore.rank, galore.refresh, galore.solver)),
            OptimizerKind::AdamW => panic!(),
        }
    };
    assert_eq!(resolved("together", "auto").unwrap(), (1024, RefreshTiming::Together, SubspaceSolver::Auto));
    assert_eq!(resolved("staggered", "svd").unwrap(), (1024, RefreshTiming::Staggered, SubspaceSolver::Svd));
    let message = resolved("sometimes", "qr").unwrap_err().to_string();
    assert!(message.contains("use together or staggered") && message.contains("use svd, eigenvectors"), "{message}");
    let adamw = Flags { optim: Some("adamw_torch".into()), galore_refresh: Some("staggered".into()), ..flags() };
    let message = Settings::resolve(adamw).unwrap_err().to_string();
    assert!(message.contains("galore_refresh") && message.contains("belongs to galore_adamw"), "{message}");
}

#[test]
fn all_problems_come_at_once_in_one_line() {
    let flags = Flags {
        optim: Some("lion".into()),
        optim_args: Some("rank=0".into()),
        device: Some("tpu".into()),
        dtype: Some("int8".into()),
        learning_rate: Some(-1.0),
        packing_strategy: Some("tight".into()),
        report_to: Some("wandb".into()),
        ..Flags::default()
    };
    let error = Settings::resolve(flags).unwrap_err();
    assert_eq!(crate::failure::exit_code(&error), 2);
    let message = error.to_string();
    for expected in [
        "--model_name",
        "output_dir",
        "optim is lion",
        "rank",
        "device is tpu",
        "dtype is int8",
        "learning_rate",
        "packing_strategy",
        "report_to",
    ] {
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(!message.contains('\n'));
}

#[test]
fn bad_optim_args_name_the_key() {
    for (text, expected) in [("rnk=4", "rank"), ("rank=many", "many"), ("rank", "rank")] {
        let message = Settings::resolve(Flags { optim_args: Some(text.into()), ..flags() }).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
    let adamw = Flags { optim: Some("adamw_torch".into()), optim_args: Some("rank=4".into()), ..flags() };
    assert!(Settings::resolve(adamw).unwrap_err().to_string().contains("belongs to galore_adamw"));
}

#[test]
fn what_cannot_be_is_refused() {
    for (flags, expected) in [
        (Flags { per_device_train_batch_size: Some(usize::MAX), ..flags() }, "per_device_train_batch_size"),
        (Flags { gradient_accumulation_steps: Some(usize::MAX), ..flags() }, "gradient_accumulation_steps"),
        (Flags { pad_to_multiple_of: Some(usize::MAX), ..flags() }, "pad_to_multiple_of"),
        (
            Flags { packing: Some(true), padding_free: Some(TextOrBool::Bool(false)), ..flags() },
            "packed rows are not padded",
        ),
        (Flags { test_size: Some(f64::NAN), ..flags() }, "test_size"),
        (Flags { loss_spike_factor: Some(1.0), ..flags() }, "loss_spike_factor is 1: use a number above 1"),
        (Flags { early_stopping_threshold: Some(0.1), ..flags() }, "no effect without early_stopping_patience"),
    ] {
        let message = Settings::resolve(flags).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
