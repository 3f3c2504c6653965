use super::*;
use galore_optim::{RefreshTiming, SubspaceSolver};
use serde_json::Value;

fn run_file() -> RunFile {
    RunFile {
        model_name: "m".into(),
        dataset_name: "d".into(),
        train_rows: digest_rows(&[Example {
            input_ids: vec![1, 2],
            labels: None,
            segment_lengths: vec![2],
            rows: vec![1],
        }]),
        eval_rows: Some("e".into()),
        row_options: row_options(&SftConfig::new("m", "o")).unwrap(),
        model_config: "c".into(),
        dtype: "BFloat16".into(),
        optimizer: OptimizerFingerprint {
            optim: "galore_adamw".into(),
            optim_args: Some(serde_json::json!({"rank": 4})),
            optim_target_modules: None,
            bf16_weight_update: "exact".into(),
            optim_state_dtype: MomentDtype::Float32,
            galore_refresh: RefreshTiming::Together,
            galore_solver: SubspaceSolver::Auto,
            adam: Value::Null,
        },
    }
}

#[test]
fn what_changed_is_named_and_what_may_change_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(RUN_FILE), run_file().to_text().unwrap()).unwrap();
    let renamed = RunFile { model_name: "elsewhere/m".into(), ..run_file() };
    renamed.check(folder.path()).unwrap();

    let rows = [Example { input_ids: vec![1, 3], labels: None, segment_lengths: vec![2], rows: vec![1] }];
    let mut changed = RunFile { train_rows: digest_rows(&rows), dtype: "Float".into(), ..run_file() };
    changed.optimizer.optim_args = Some(serde_json::json!({"rank": 8}));
    changed.optimizer.galore_refresh = RefreshTiming::Staggered;
    changed.optimizer.galore_solver = SubspaceSolver::Svd;
    let message = changed.check(folder.path()).unwrap_err().to_string();
    for expected in [
        "the training rows",
        "dtype (was BFloat16, is Float)",
        "optim_args (was {\"rank\":4}, is {\"rank\":8})",
        "galore_refresh (was together, is staggered)",
        "galore_solver (was auto, is svd)",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    assert!(!message.contains("config.json") && !message.contains("evaluation"), "{message}");
}

#[test]
fn refresh_and_solver_are_no_part_of_optim_args() {
    let of = |galore: GaLoreConfig| {
        let settings = OptimizerConfig::default();
        OptimizerFingerprint::new(&settings, Some(&galore), MomentDtype::Float32, WeightUpdate::Exact).unwrap()
    };
    let plain = of(GaLoreConfig::default());
    let refresh = RefreshTiming::Staggered;
    let staggered = of(GaLoreConfig { refresh, ..GaLoreConfig::default() });
    assert_eq!(staggered, OptimizerFingerprint { galore_refresh: refresh, ..plain });
    // As checkpoints from before these options have it.
    let known = serde_json::json!({"rank": 128, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"});
    assert_eq!(staggered.optim_args, Some(known));
}

#[test]
fn other_evaluation_rows_are_named_and_none_are_no_change() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(RUN_FILE), run_file().to_text().unwrap()).unwrap();
    RunFile { eval_rows: None, ..run_file() }.check(folder.path()).unwrap();
    let changed = RunFile { eval_rows: Some("f".into()), ..run_file() };
    let message = changed.check(folder.path()).unwrap_err().to_string();
    assert!(message.contains("changed since: the evaluation rows (was d, is d);"), "{message}");

    // A checkpoint from before they were part of it.
    let path = folder.path().join(RUN_FILE);
    let mut saved: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    saved.as_object_mut().unwrap().remove("eval_rows").unwrap();
    std::fs::write(&path, saved.to_string()).unwrap();
    changed.check(folder.path()).unwrap();
}

#[test]
fn the_options_that_made_other_rows_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(RUN_FILE);
    std::fs::write(&path, run_file().to_text().unwrap()).unwrap();
    let with = |options: Value| {
        let mut all = serde_json::json!({ "model_name": "m", "output_dir": "o" }).as_object().unwrap().clone();
        all.extend(options.as_object().unwrap().clone());
        row_options(&SftConfig::from_options(all).unwrap()).unwrap()
    };
    for (option, was, is) in [
        ("max_length", "1024", serde_json::json!(512)),
        ("packing", "false", serde_json::json!(true)),
        ("packing_strategy", "bfd", serde_json::json!("wrapped")),
        ("assistant_only_loss", "false", serde_json::json!(true)),
        ("completion_only_loss", "none", serde_json::json!(false)),
        ("dataset_text_field", "text", serde_json::json!("body")),
        ("dataset_train_split", "none", serde_json::json!("half")),
        ("dataset_revision", "main", serde_json::json!("v2")),
        ("eos_token", "none", serde_json::json!("<e>")),
        ("chat_template_path", "none", serde_json::json!("t.jinja")),
        ("test_size", "none", serde_json::json!(0.5)),
        ("seed", "42", serde_json::json!(1)),
    ] {
        let options = with(serde_json::json!({ option: is }));
        let same_rows = RunFile { row_options: options.clone(), ..run_file() };
        same_rows.check(folder.path()).unwrap();
        let changed =
            RunFile { row_options: options, train_rows: "x".into(), eval_rows: Some("y".into()), ..run_file() };
        let message = changed.check(folder.path()).unwrap_err().to_string();
        let expected = format!("changed since: {option} (was {was}, is {});", is.to_string().trim_matches('"'));
        assert!(message.contains(&expected), "{expected}: {message}");
    }
    // A checkpoint from before they were part of it.
    let mut saved: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    saved.as_object_mut().unwrap().remove("row_options").unwrap();
    std::fs::write(&path, saved.to_string()).unwrap();
    run_file().check(folder.path()).unwrap();
    let changed = RunFile { train_rows: "x".into(), row_options: with(serde_json::json!({"seed": 1})), ..run_file() };
    let message = changed.check(folder.path()).unwrap_err().to_string();
    assert!(message.contains("the training rows (was d, is d);"), "{message}");
}
