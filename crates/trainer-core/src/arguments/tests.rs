use super::*;
use crate::Error;
use serde_json::json;

fn usable() -> TrainingArguments {
    TrainingArguments { output_dir: "out".into(), ..TrainingArguments::documented_recipe() }
}

fn problems(arguments: TrainingArguments) -> Vec<ArgumentProblem> {
    match arguments.validate() {
        Ok(()) => vec![],
        Err(Error::Arguments { problems }) => problems,
        Err(other) => panic!("{other}"),
    }
}

fn fields(arguments: TrainingArguments) -> Vec<&'static str> {
    problems(arguments).iter().map(|problem| problem.field).collect()
}

#[test]
fn the_recipe_and_the_defaults_are_usable() {
    assert_eq!(problems(usable()), []);
    assert_eq!(problems(TrainingArguments { output_dir: "out".into(), ..Default::default() }), []);
}

#[test]
fn all_problems_are_reported_together() {
    let arguments = TrainingArguments {
        num_train_epochs: 0.0,
        max_steps: 0,
        gradient_accumulation_steps: 0,
        learning_rate: f64::NAN,
        warmup_ratio: 1.5,
        max_grad_norm: -1.0,
        logging_steps: 1.5,
        save_total_limit: Some(0),
        ..TrainingArguments::documented_recipe()
    };
    let expected = [
        "output_dir",
        "max_steps",
        "num_train_epochs",
        "gradient_accumulation_steps",
        "max_grad_norm",
        "save_total_limit",
        "learning_rate",
        "warmup_ratio",
        "logging_steps",
    ];
    assert_eq!(fields(arguments.clone()), expected);
    let message = arguments.validate().unwrap_err().to_string();
    assert!(message.contains("warmup_ratio is 1.5: give a ratio between 0 and 1"), "{message}");
    assert!(!message.contains('\n'));
}

#[test]
fn kwargs_must_fit_the_schedule() {
    let kwargs = SchedulerKwargs { num_cycles: Some(2.0), power: Some(0.0), ..Default::default() };
    let problems = problems(TrainingArguments { lr_scheduler_kwargs: kwargs, ..usable() });
    assert_eq!(problems[0].to_string(), "lr_scheduler_kwargs is num_cycles: leave it out; linear takes none");
    assert_eq!(problems[2].to_string(), "lr_scheduler_kwargs is power=0: give a positive number");

    let below_end = TrainingArguments {
        lr_scheduler_type: SchedulerType::Polynomial,
        learning_rate: 1e-8, // below the default lr_end of 1e-7
        ..usable()
    };
    assert_eq!(fields(below_end), ["lr_scheduler_kwargs"]);
}

#[test]
fn a_schedule_says_what_it_cannot_do_without() {
    let told = |kind, kwargs, eval_strategy| {
        let arguments = TrainingArguments {
            lr_scheduler_type: kind,
            lr_scheduler_kwargs: serde_json::from_value(kwargs).unwrap(),
            eval_strategy,
            ..usable()
        };
        problems(arguments).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    use IntervalStrategy::{Epoch, No};
    use SchedulerType::{CosineWithMinLr, ReduceLrOnPlateau, WarmupStableDecay};
    for (kind, kwargs, evaluates, expected) in [
        (CosineWithMinLr, json!({"min_lr": 1e-6}), Epoch, ""),
        (CosineWithMinLr, json!({}), Epoch, "give one of min_lr and min_lr_rate"),
        (CosineWithMinLr, json!({"min_lr": 1e-6, "min_lr_rate": 0.1}), Epoch, "give one of min_lr and min_lr_rate"),
        (CosineWithMinLr, json!({"min_lr_rate": 1.0}), Epoch, "is min_lr_rate=1: give 0 or more, less than 1"),
        (WarmupStableDecay, json!({"num_decay_steps": 3, "decay_type": "1-sqrt"}), Epoch, ""),
        (WarmupStableDecay, json!({}), Epoch, "give num_decay_steps"),
        (ReduceLrOnPlateau, json!({"patience": 0, "mode": "max"}), Epoch, ""),
        (ReduceLrOnPlateau, json!({}), No, "set eval_strategy to steps or epoch"),
        (ReduceLrOnPlateau, json!({"num_cycles": 1}), Epoch, "reduce_lr_on_plateau takes mode, factor, patience"),
    ] {
        let message = told(kind, kwargs.clone(), evaluates);
        assert!(message.contains(expected) && (message.is_empty() == expected.is_empty()), "{kwargs}: {message}");
    }
    let unknown = serde_json::from_value::<SchedulerKwargs>(json!({"decay_type": "sqrt"})).unwrap_err().to_string();
    assert!(unknown.contains("`sqrt`") && unknown.contains("1-sqrt"), "{unknown}");
}

#[test]
fn load_best_needs_a_checkpoint_of_every_evaluation() {
    let with = |eval, eval_steps, save, save_steps| {
        fields(TrainingArguments {
            load_best_model_at_end: true,
            eval_strategy: eval,
            eval_steps: Some(eval_steps),
            save_strategy: save,
            save_steps,
            ..usable()
        })
    };
    use IntervalStrategy as Eval;
    let bad = ["load_best_model_at_end"];
    assert!(with(Eval::Epoch, 1.0, SaveStrategy::Epoch, 1.0).is_empty());
    assert!(with(Eval::Steps, 10.0, SaveStrategy::Steps, 30.0).is_empty());
    assert!(with(Eval::Steps, 0.1, SaveStrategy::Steps, 0.3).is_empty());
    assert!(with(Eval::Steps, 10.0, SaveStrategy::Best, 7.0).is_empty());
    assert_eq!(with(Eval::Steps, 10.0, SaveStrategy::Steps, 25.0), bad);
    assert_eq!(with(Eval::Steps, 0.1, SaveStrategy::Steps, 30.0), bad);
    assert_eq!(with(Eval::Epoch, 1.0, SaveStrategy::Steps, 10.0), bad);
    assert_eq!(with(Eval::No, 1.0, SaveStrategy::No, 1.0), bad);
    assert_eq!(with(Eval::No, 1.0, SaveStrategy::Best, 1.0), ["save_strategy", "load_best_model_at_end"]);
}

#[test]
fn better_is_strict_finite_and_in_the_metrics_direction() {
    let loss = usable();
    assert!(loss.is_better(2.0, None) && loss.is_better(1.9, Some(2.0)));
    assert!(!loss.is_better(2.0, Some(2.0)) && !loss.is_better(f64::NAN, None) && !loss.is_better(f64::INFINITY, None));

    let accuracy = TrainingArguments { metric_for_best_model: Some("mean_token_accuracy".into()), ..usable() };
    assert_eq!(accuracy.best_metric_key(), "eval_mean_token_accuracy");
    assert!(accuracy.is_better(0.6, Some(0.5)) && !accuracy.is_better(0.4, Some(0.5)));

    for name in ["perplexity", "eval_perplexity"] {
        let perplexity = TrainingArguments { metric_for_best_model: Some(name.into()), ..usable() };
        assert_eq!(perplexity.best_metric_key(), "perplexity");
        assert!(perplexity.is_better(4.0, Some(5.0)) && !perplexity.is_better(6.0, Some(5.0)));
    }

    let forced = TrainingArguments { greater_is_better: Some(true), ..usable() };
    assert!(forced.is_better(3.0, Some(2.0)));
}

#[test]
fn a_metric_that_no_evaluation_has_is_refused() {
    let named = |name: &str| problems(TrainingArguments { metric_for_best_model: Some(name.into()), ..usable() });
    for name in TrainingArguments::BEST_METRICS {
        assert_eq!(named(name), []);
        assert_eq!(named(&format!("eval_{name}")), []);
    }
    let expected =
        "metric_for_best_model is bleu: use one of loss, mean_token_accuracy, perplexity, or leave it out for loss";
    assert_eq!(named("bleu")[0].to_string(), expected);
    assert!(named("")[0].to_string().starts_with("metric_for_best_model is empty: use one of"));
    assert_eq!([named("eval_eval_loss").len(), named("eval_").len(), named("runtime").len()], [1, 1, 1]);
}

#[test]
fn a_file_may_give_some_fields_and_no_unknown_ones() {
    let given: TrainingArguments =
        serde_json::from_str(r#"{"output_dir": "o", "save_strategy": "best", "lr_scheduler_kwargs": {"power": 2}}"#)
            .unwrap();
    assert_eq!(given.save_strategy, SaveStrategy::Best);
    assert_eq!(given.lr_scheduler_kwargs.power, Some(2.0));
    assert_eq!(given.logging_steps, 500.0);
    assert!(serde_json::from_str::<TrainingArguments>(r#"{"learning_rat": 1}"#).is_err());
    assert!(serde_json::from_str::<TrainingArguments>(r#"{"lr_scheduler_kwargs": {"num_cycle": 1}}"#).is_err());
    let text = serde_json::to_string(&given).unwrap();
    assert_eq!(serde_json::from_str::<TrainingArguments>(&text).unwrap(), given);
}

/// Read from the source of transformers 5.17.0 (`training_args.py`). `warmup_steps` is 0 there.
/// Here it is not set, because `warmup_ratio` of earlier versions counts then; its default is 0.
#[test]
fn the_defaults_are_those_of_transformers() {
    let ours = serde_json::to_value(TrainingArguments::default()).unwrap();
    let theirs = serde_json::json!({
        "num_train_epochs": 3.0, "max_steps": -1, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 8,
        "gradient_accumulation_steps": 1, "learning_rate": 5e-5, "lr_scheduler_type": "linear", "warmup_steps": null,
        "max_grad_norm": 1.0, "auto_find_batch_size": false, "logging_strategy": "steps", "logging_steps": 500.0,
        "logging_first_step": false, "eval_strategy": "no", "eval_steps": null, "eval_delay": 0.0,
        "eval_on_start": false, "save_strategy": "steps", "save_steps": 500.0, "save_total_limit": null,
        "load_best_model_at_end": false, "metric_for_best_model": null, "greater_is_better": null, "seed": 42,
        "include_num_input_tokens_seen": "no", "save_only_model": false, "data_seed": null,
    });
    for (key, value) in theirs.as_object().unwrap() {
        assert_eq!(&ours[key], value, "{key}");
    }
    let not_theirs = ["output_dir", "lr_scheduler_kwargs", "warmup_ratio", "max_bad_steps", "step_timing"];
    assert_eq!(ours.as_object().unwrap().len(), theirs.as_object().unwrap().len() + not_theirs.len());
}

#[test]
fn the_recipe_has_the_documented_values() {
    let recipe = TrainingArguments::documented_recipe();
    assert_eq!((recipe.num_train_epochs, recipe.learning_rate, recipe.warmup_ratio), (10.0, 1e-5, 0.1));
    assert_eq!((recipe.logging_steps, recipe.save_total_limit), (85.0, Some(1)));
    assert_eq!((recipe.eval_strategy, recipe.save_strategy), (IntervalStrategy::Epoch, SaveStrategy::Epoch));
    let rest = TrainingArguments {
        num_train_epochs: 3.0,
        learning_rate: 5e-5,
        warmup_ratio: 0.0,
        logging_steps: 500.0,
        save_total_limit: None,
        eval_strategy: IntervalStrategy::No,
        save_strategy: SaveStrategy::Steps,
        ..recipe
    };
    assert_eq!(rest, TrainingArguments::default());
}

#[test]
fn numbers_that_are_typing_errors_are_refused() {
    let at_most = TrainingArguments {
        per_device_train_batch_size: 1_000_000,
        per_device_eval_batch_size: 1_000_000,
        gradient_accumulation_steps: 1_000_000,
        ..usable()
    };
    assert_eq!(problems(at_most), []);
    let beyond = TrainingArguments {
        per_device_train_batch_size: 1_000_001,
        per_device_eval_batch_size: 1_000_001,
        gradient_accumulation_steps: usize::MAX,
        ..usable()
    };
    let expected = ["per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"];
    assert_eq!(fields(beyond.clone()), expected);
    assert_eq!(problems(beyond)[0].to_string(), "per_device_train_batch_size is 1000001: use 1000000 or less");
}

#[cfg(unix)]
#[test]
fn a_folder_that_json_cannot_name_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let output_dir = std::ffi::OsStr::from_bytes(b"out\xff").into();
    let found = problems(TrainingArguments { output_dir, ..usable() });
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().ends_with(": the path must be valid UTF-8"), "{}", found[0]);
}

#[test]
fn names_are_those_of_files() {
    for (strategy, name) in [(SaveStrategy::No, "no"), (SaveStrategy::Best, "best"), (SaveStrategy::Epoch, "epoch")] {
        assert_eq!((strategy.to_string().as_str(), name.parse().unwrap()), (name, strategy));
    }
    assert_eq!(("window".parse().unwrap(), StepTiming::Step.to_string().as_str()), (StepTiming::Averaged, "step"));
    let message = "epochs".parse::<IntervalStrategy>().unwrap_err().to_string();
    assert!(message.contains("`epochs`") && message.contains("`no`, `steps`, `epoch`"), "{message}");
}

#[test]
fn a_wrong_value_is_told_with_what_is_expected() {
    let message = |text: &str| serde_json::from_str::<TrainingArguments>(text).unwrap_err().to_string();
    let kwargs = message(r#"{"lr_scheduler_kwargs": 3}"#);
    let expected = "expected an object with any of the keys num_cycles, power, lr_end and timescale";
    assert!(kwargs.contains("integer `3`") && kwargs.contains(expected), "{kwargs}");
    let unknown = message(r#"{"lr_scheduler_kwargs": {"num_cycle": 1}}"#);
    assert!(unknown.contains("`num_cycle`") && unknown.contains("`num_cycles`, `power`"), "{unknown}");
    assert!(message("3").contains("expected an object of training arguments"), "{}", message("3"));
}

/// Each option whose default is `None` in transformers 5.17, or whose 0 or `None` turns something
/// off there: what a file gives, and the field that it becomes.
#[test]
fn null_and_zero_mean_what_they_mean_in_transformers() {
    let recipe = || serde_json::to_value(usable()).unwrap();
    let read = |name: &str, value: serde_json::Value| {
        let mut fields = recipe();
        fields[name] = value;
        serde_json::from_value::<TrainingArguments>(fields).map(|arguments| serde_json::to_value(arguments).unwrap())
    };
    let null = serde_json::Value::Null;
    for (name, given, becomes) in [
        ("save_total_limit", json!(null), json!(null)),
        ("save_total_limit", json!(0), json!(null)),
        ("save_total_limit", json!(-1), json!(null)),
        ("save_total_limit", json!("3"), json!(3)),
        ("eval_steps", json!(null), json!(null)),
        ("eval_steps", json!(0), json!(null)),
        ("eval_steps", json!(0.25), json!(0.25)),
        ("warmup_steps", json!(null), json!(null)),
        ("warmup_steps", json!(0), json!(0.0)),
        ("warmup_ratio", json!(null), json!(0.0)),
        ("max_grad_norm", json!(null), json!(0.0)),
        ("max_grad_norm", json!(0), json!(0.0)),
        ("lr_scheduler_kwargs", json!(null), json!({})),
        ("lr_scheduler_kwargs", json!("{\"power\": 2}"), json!({ "power": 2.0 })),
        ("metric_for_best_model", json!(null), json!(null)),
        ("greater_is_better", json!(null), json!(null)),
        ("greater_is_better", json!("no"), json!(false)),
        ("data_seed", json!(null), json!(null)),
        ("data_seed", json!("7"), json!(7)),
        ("include_num_input_tokens_seen", json!(true), json!("all")),
        ("include_num_input_tokens_seen", json!("False"), json!("no")),
        ("include_num_input_tokens_seen", json!("non_padding"), json!("non_padding")),
    ] {
        let found = read(name, given.clone()).unwrap();
        assert_eq!(found[name], becomes, "{name}: {given}");
        let mut others = recipe();
        others[name] = becomes;
        assert_eq!(found, others, "{name}: {given} changes another field");
    }
    // There, `None` is an error in these.
    for name in [
        "max_steps",
        "num_train_epochs",
        "logging_steps",
        "save_steps",
        "eval_delay",
        "learning_rate",
        "seed",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "logging_first_step",
    ] {
        let message = read(name, null.clone()).unwrap_err().to_string();
        assert!(message.starts_with("invalid value: null, expected "), "{name}: {message}");
    }
}

#[test]
fn values_in_quotes_are_read_as_their_option_needs_them() {
    let read = |text: &str| serde_json::from_str::<TrainingArguments>(text);
    let text = r#"{"learning_rate": "2e-5", "warmup_steps": " 1_000 ", "max_steps": "-1", "num_train_epochs": 3,
        "per_device_train_batch_size": "4", "gradient_accumulation_steps": 2.0, "eval_on_start": "Yes",
        "logging_first_step": 1, "load_best_model_at_end": "f", "seed": 18446744073709551615}"#;
    let found = read(text).unwrap();
    assert_eq!((found.learning_rate, found.warmup_steps, found.max_steps), (2e-5, Some(1000.0), -1));
    assert_eq!((found.per_device_train_batch_size, found.gradient_accumulation_steps), (4, 2));
    assert_eq!((found.eval_on_start, found.logging_first_step, found.load_best_model_at_end), (true, true, false));
    assert_eq!(found.seed, u64::MAX);

    for (text, expected) in [
        (r#"{"learning_rate": "fast"}"#, r#"invalid value: string "fast", expected a number"#),
        (r#"{"learning_rate": "_2e-5"}"#, r#"invalid value: string "_2e-5", expected a number"#),
        (r#"{"learning_rate": [1]}"#, "invalid value: a list, expected a number"),
        (r#"{"learning_rate": true}"#, "invalid value: boolean `true`, expected a number"),
        (r#"{"per_device_train_batch_size": "8.0"}"#, r#"string "8.0", expected a whole number of 0 or more"#),
        (r#"{"per_device_train_batch_size": -8}"#, "integer `-8`, expected a whole number of 0 or more"),
        (r#"{"gradient_accumulation_steps": 1.5}"#, "floating point `1.5`, expected a whole number of 0 or more"),
        (r#"{"eval_on_start": "maybe"}"#, r#"string "maybe", expected true or false"#),
        (r#"{"eval_on_start": 2}"#, "integer `2`, expected true or false"),
        (r#"{"lr_scheduler_kwargs": "power"}"#, "expected an object with any of the keys num_cycles, power"),
        (r#"{"lr_scheduler_kwargs": "{\"power\": "}"#, "EOF while parsing"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}
