//! Logged figures, compared with figures computed by hand.

use super::*;

#[test]
fn losses_are_means_since_the_last_log_and_rates_are_those_used() {
    let bench = Bench::new();
    let mut learner = ToyLearner::default().with_step_loss(|step| step as f64);
    let arguments = TrainingArguments { warmup_ratio: 0.0, logging_steps: 4.0, ..bench.arguments() };
    let output = bench.train(arguments, &mut learner).unwrap();
    let logs: Vec<&LogEntry> = output.state.log_history.iter().filter(|entry| entry.contains_key("loss")).collect();
    assert_eq!(logs.len(), 2);
    assert_eq!(logs[0]["loss"], 2.5); // of 1, 2, 3, 4
    assert_eq!(logs[1]["loss"], 6.5);
    assert_eq!(logs[0]["learning_rate"], 0.1 * (6.0 / 9.0)); // step 4 is index 3 of 9
    assert_eq!(logs[0]["epoch"], 1.0 + 2.0 / 5.0);
    assert_eq!(logs[0]["num_tokens"], 2 * (18 + 8)); // an epoch and a window of two batches, with two tokens in a row
    let keys: Vec<&str> = logs[0].keys().map(String::as_str).collect();
    let expected = ["loss", "grad_norm", "learning_rate", "mean_token_accuracy", "num_tokens", "epoch", "step"];
    assert_eq!(keys, expected);
    assert_eq!(output.metrics["train_loss"], 5.0, "the mean of all nine steps, the unlogged one too");
}

#[test]
fn evaluation_is_weighted_by_tokens() {
    let eval_loss = |batch_size| {
        let bench = Bench { eval: ToySource::new(7, batch_size), ..Bench::new() };
        let output = bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
        output.eval_metrics.unwrap()
    };
    let (small, large) = (eval_loss(2), eval_loss(7)); // 2+2+2+1 rows: a mean of means would differ
    let difference = small["eval_loss"].as_f64().unwrap() - large["eval_loss"].as_f64().unwrap();
    assert!(difference.abs() < 1e-12, "{difference}");
    assert_eq!(small["perplexity"].as_f64(), small["eval_loss"].as_f64().map(f64::exp));
    assert_eq!(small["eval_mean_token_accuracy"], large["eval_mean_token_accuracy"]);
}

#[test]
fn accumulation_does_not_change_the_result() {
    let weight = |batch_size, gradient_accumulation_steps| {
        let bench = Bench { train: ToySource::new(18, batch_size), ..Bench::new() };
        let mut learner = ToyLearner::default();
        let arguments = TrainingArguments { gradient_accumulation_steps, ..bench.arguments() };
        let output = bench.train(arguments, &mut learner).unwrap();
        (learner.weight(), output.metrics["train_loss"].as_f64().unwrap())
    };
    let (whole, parts) = (weight(6, 1), weight(2, 3));
    assert!((whole.0 - parts.0).abs() < 1e-12 && (whole.1 - parts.1).abs() < 1e-12, "{whole:?} {parts:?}");
}

#[test]
fn the_summary_has_hf_keys_and_speeds() {
    let bench = Bench::new();
    let output = bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
    let summary = output.state.log_history.last().unwrap();
    let expected =
        ["train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "epoch", "step"];
    assert_eq!(summary.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    for key in ["train_tokens_per_second", "step_time_ms_median", "step_time_ms_max", "first_step_ms"] {
        assert!(output.metrics[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(output.metrics["epoch"], 3.0);
    assert!(!output.metrics.contains_key("step"));
}

#[test]
fn every_best_metric_is_in_an_evaluation() {
    for name in TrainingArguments::BEST_METRICS {
        let bench = Bench::new();
        let arguments = TrainingArguments { metric_for_best_model: Some((*name).into()), ..bench.arguments() };
        let output = bench.train(arguments, &mut ToyLearner::default()).unwrap();
        assert!(output.state.best_metric.is_some(), "{name}");
    }
}

#[test]
fn a_perplexity_that_overflows_is_null() {
    let bench = Bench::new();
    let output = bench.train(bench.arguments(), &mut ToyLearner::default().with_eval_loss(|_| 800.0)).unwrap();
    let evaluation = output.state.evaluation_at(3).unwrap();
    assert_eq!((&evaluation["eval_loss"], &evaluation["perplexity"]), (&json!(800.0), &Value::Null));
}

#[test]
fn averaged_timing_has_a_first_step() {
    let bench = Bench::new();
    let arguments = TrainingArguments { step_timing: StepTiming::Averaged, ..bench.arguments() };
    let output = bench.train(arguments, &mut ToyLearner::default()).unwrap();
    assert!(output.metrics["first_step_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_learner_gets_the_rate_and_the_norm_of_its_step() {
    let weight_after_a_step = |arguments: TrainingArguments| {
        let bench = Bench::new();
        let mut learner = ToyLearner::default();
        let output_dir = bench.path().to_owned();
        bench.train(TrainingArguments { max_steps: 1, output_dir, ..arguments }, &mut learner).unwrap();
        learner.weight()
    };
    let base = TrainingArguments { warmup_ratio: 0.0, learning_rate: 0.1, ..TrainingArguments::documented_recipe() };
    let warming_up = TrainingArguments { warmup_steps: Some(1.0), ..base.clone() };
    assert_eq!(weight_after_a_step(warming_up), 0.0, "the first step of a warm-up has rate 0");
    // The gradient is about −5, so clipping to 1 makes the step the learning rate.
    assert!((weight_after_a_step(base.clone()) - 0.1).abs() < 1e-6);
    let unclipped = TrainingArguments { max_grad_norm: 0.0, ..base };
    assert!(weight_after_a_step(unclipped) > 0.4);
}

#[test]
fn entries_say_how_many_tokens_were_seen_if_asked() {
    let bench = Bench::new();
    let seen = |include_num_input_tokens_seen| {
        let arguments = TrainingArguments { include_num_input_tokens_seen, ..bench.arguments() };
        let output = bench.train(arguments, &mut ToyLearner::default()).unwrap();
        let entries = output.state.log_history.into_iter();
        entries.map(|entry| entry.get("num_input_tokens_seen").cloned()).collect::<Vec<_>>()
    };
    let tokens = seen(crate::InputTokens::All);
    assert_eq!(tokens.first(), Some(&Some(32.into()))); // two steps of two batches of four rows
    assert_eq!(tokens.last(), Some(&Some(108.into())), "the summary too");
    assert!(tokens.iter().all(Option::is_some) && seen(crate::InputTokens::No).iter().all(Option::is_none));
}
