//! What a trainer must have.

use super::*;

#[test]
fn a_run_that_saves_and_evaluates_nothing_needs_neither_store_nor_evaluation_split() {
    let bench = Bench::new();
    let arguments =
        TrainingArguments { save_strategy: SaveStrategy::No, eval_strategy: IntervalStrategy::No, ..bench.arguments() };
    let mut learner = ToyLearner::default();
    let output = Trainer::builder(arguments, &mut learner, &bench.train).build().unwrap().train().unwrap();
    assert_eq!((output.state.global_step, output.saves), (9, SaveReport::default()));
    assert_eq!(std::fs::read_dir(bench.path()).unwrap().count(), 0);
}

#[test]
fn a_run_that_saves_needs_a_store() {
    let bench = Bench::new();
    let mut learner = ToyLearner::default();
    let builder = Trainer::builder(bench.arguments(), &mut learner, &bench.train).eval_source(&bench.eval);
    let error = builder.build().err().unwrap();
    assert!(matches!(error, Error::MissingStore { save_strategy: SaveStrategy::Epoch }), "{error}");
    assert!(
        error.to_string().starts_with("save_strategy is epoch, but the trainer has no checkpoint store"),
        "{error}"
    );
}

#[test]
fn a_run_that_evaluates_needs_a_split() {
    let bench = Bench::new();
    let mut learner = ToyLearner::default();
    let mut store = PlainStore::new(bench.path());
    let builder = Trainer::builder(bench.arguments(), &mut learner, &bench.train).eval_source(None);
    let error = builder.store(&mut store).build().err().unwrap();
    assert!(matches!(error, Error::EmptySplit { split: "evaluation" }), "{error}");
}

#[test]
fn a_save_that_a_callback_asks_for_needs_a_store() {
    let bench = Bench::new();
    let ask = on_event(|seen, requests| {
        if seen.event == "on_step_end" && seen.step == 2 {
            requests.request_save();
        }
        Ok(())
    });
    let arguments = TrainingArguments { save_strategy: SaveStrategy::No, ..bench.arguments() };
    let mut learner = ToyLearner::default();
    let builder = Trainer::builder(arguments, &mut learner, &bench.train).eval_source(&bench.eval);
    let error = builder.callback(ask).build().unwrap().train().unwrap_err();
    assert!(matches!(error, Error::SaveWithoutStore { step: 2 }), "{error}");
}
