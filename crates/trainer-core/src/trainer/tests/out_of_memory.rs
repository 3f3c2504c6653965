//! When memory runs out: smaller batches and the same steps.

use super::*;
use crate::progress::PROGRESS_FILE_NAME;

fn searching(bench: &Bench) -> TrainingArguments {
    TrainingArguments { auto_find_batch_size: true, ..bench.arguments() }
}

/// Whether weights and losses agree to 12 digits. They differ in the last bits, because sums are
/// taken in another order.
fn same(found: (&ToyLearner, &TrainOutput), expected: (&ToyLearner, &TrainOutput)) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
    let losses = |output: &TrainOutput| -> Vec<f64> {
        let of = |entry: &LogEntry| Some(entry.get("loss").or(entry.get("eval_loss"))?.as_f64().unwrap());
        output.state.log_history.iter().filter_map(of).collect()
    };
    let (found_losses, expected_losses) = (losses(found.1), losses(expected.1));
    found_losses.len() == expected_losses.len()
        && found_losses.iter().zip(&expected_losses).all(|(a, b)| close(*a, *b))
        && close(found.0.weight(), expected.0.weight())
        && found.1.state.global_step == expected.1.state.global_step
        && found.1.state.epoch == expected.1.state.epoch
}

#[test]
fn micro_batches_are_halved_until_they_fit_and_nothing_else_changes() {
    let bench = Bench::new();
    let mut roomy = ToyLearner::default();
    let expected = bench.train(bench.arguments(), &mut roomy).unwrap();
    for (train, eval, found_train, found_eval) in [(3, 4, 2, None), (1, 3, 1, Some(2)), (4, 1, 4, Some(1))] {
        let bench = Bench::new();
        let mut tight = ToyLearner::default().with_room_for(train, eval);
        let arguments = TrainingArguments { per_device_eval_batch_size: 4, ..searching(&bench) };
        let output = bench.train(arguments, &mut tight).unwrap();
        assert!(same((&tight, &output), (&roomy, &expected)), "room for {train} and {eval}: {output:?}");
        assert_eq!(output.state.train_batch_size, Some(found_train));
        let entries: Vec<&LogEntry> =
            output.state.log_history.iter().filter(|entry| entry.contains_key("out_of_memory")).collect();
        let last = |key: &str| entries.iter().rev().find_map(|entry| entry.get(key)?.as_u64());
        if found_train < 4 {
            assert_eq!(last("per_device_train_batch_size"), Some(found_train as u64));
            assert_eq!(last("gradient_accumulation_steps"), Some(2 * 4 / found_train as u64));
            assert_eq!(entries[0]["step"], 0, "before the first step is counted");
        }
        assert_eq!(last("per_device_eval_batch_size"), found_eval);
    }
}

#[test]
fn batches_smaller_than_the_argument_are_halved() {
    let bench = Bench { train: ToySource::new(3, 3), eval: ToySource::new(3, 3), ..Bench::new() };
    let arguments = TrainingArguments { per_device_train_batch_size: 1000, ..searching(&bench) };
    let output = bench.train(arguments, &mut ToyLearner::default().with_room_for(2, 2)).unwrap();
    assert_eq!(output.state.train_batch_size, Some(1));
    let tries = output.state.log_history.iter().filter(|entry| entry.contains_key("out_of_memory")).count();
    assert_eq!(tries, 2, "one for each split");
}

#[test]
fn a_resumed_run_continues_with_the_batch_size_that_was_found() {
    let bench = Bench::new();
    let arguments = TrainingArguments { per_device_eval_batch_size: 4, ..searching(&bench) };
    let mut learner = ToyLearner::default().with_room_for(2, 2);
    let straight = bench.train(arguments.clone(), &mut learner).unwrap();
    let progress = || std::fs::read_to_string(bench.path().join("checkpoint-9").join(PROGRESS_FILE_NAME)).unwrap();
    let expected = progress();
    let mut resumed = ToyLearner::default().with_room_for(2, 2);
    let (_, output) = bench.resume(arguments.clone(), &mut resumed, &bench.path().join("checkpoint-3")).unwrap();
    assert_eq!(resumed.weight().to_bits(), learner.weight().to_bits());
    assert_eq!(timeless(&output.state.log_history), timeless(&straight.state.log_history), "it did not search again");
    assert_eq!(progress(), expected);

    // Without auto_find_batch_size the batch size is that of the arguments again.
    let whole = TrainingArguments { auto_find_batch_size: false, ..arguments };
    let mut roomy = ToyLearner::default();
    let (_, output) = bench.resume(whole, &mut roomy, &bench.path().join("checkpoint-3")).unwrap();
    assert_eq!(output.state.train_batch_size, Some(4));
}

#[test]
fn a_row_that_does_not_fit_is_an_error_with_the_figures() {
    let bench = Bench::new();
    for (train, eval, action) in [(0, 9, "forward and backward at step 1"), (9, 0, "evaluation at step 3")] {
        let mut learner = ToyLearner::default().with_room_for(train, eval);
        let error = bench.train(searching(&bench), &mut learner).unwrap_err();
        let expected = format!(
            "{action} with 1 rows in a batch: out of memory on the toy: 8 bytes were asked for, there are 0 bytes in all"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn without_auto_find_batch_size_there_is_no_search() {
    let bench = Bench::new();
    let error = bench.train(bench.arguments(), &mut ToyLearner::default().with_room_for(3, 9)).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("forward and backward at step 1 with 4 rows in a batch: out of memory"), "{message}");
    let output = bench.train(bench.arguments(), &mut ToyLearner::default()).unwrap();
    assert_eq!(output.state.train_batch_size, Some(4));
}

#[test]
fn an_update_that_runs_out_of_memory_ends_the_run_and_names_a_checkpoint() {
    let bench = Bench::new();
    let error = |step| {
        let mut learner = ToyLearner::default().without_room_for_update(step);
        let error = bench.train(searching(&bench), &mut learner).unwrap_err();
        error.to_string()
    };
    let message = error(5);
    let start = "the optimizer step at step 5: out of memory on the toy: 24 bytes were asked for, there are 16 bytes in all; the update is \
                 half done, so the run ends here, and the last good checkpoint is ";
    assert!(message.starts_with(start) && message.ends_with("checkpoint-3"), "{message}");
    assert!(!bench.path().join("checkpoint-6").exists());
    assert!(error(1).ends_with("and no checkpoint was saved before"));
}

/// A source whose batches cannot be split, or do not become small enough.
struct Unsplit(ToySource, Option<usize>);

impl BatchSource for Unsplit {
    type Batch = crate::testing::ToyBatch;

    fn num_rows(&self) -> usize {
        self.0.num_rows()
    }

    fn num_batches(&self) -> usize {
        self.0.num_batches()
    }

    fn batches(&self, epoch: u64, first: usize) -> Result<Batches<'_, Self::Batch>, BoxError> {
        self.0.batches(epoch, first)
    }

    fn split_batch(&self, batch: &Self::Batch, _: usize) -> Result<Vec<Self::Batch>, BoxError> {
        self.1.map(|rows| vec![crate::testing::ToyBatch(batch.0[..rows].to_vec())]).ok_or_else(|| "no".into())
    }
}

#[test]
fn a_source_that_cannot_split_is_named() {
    let error = |rows, train, eval| {
        let bench = Bench::new();
        let (split, mut store) = (Unsplit(bench.train.clone(), rows), PlainStore::new(bench.path()));
        let mut learner = ToyLearner::default().with_room_for(train, eval);
        let trainer = Trainer::builder(searching(&bench), &mut learner, &split)
            .eval_source(&split)
            .store(&mut store)
            .build()
            .unwrap();
        trainer.train().unwrap_err().to_string()
    };
    assert_eq!(error(None, 2, 9), "the training batches cannot be made smaller: no");
    assert_eq!(error(None, 9, 2), "the evaluation batches cannot be made smaller: no");
    assert_eq!(error(Some(4), 2, 9), "the training batches cannot be made smaller: 4 rows came where 2 were asked for");
}
