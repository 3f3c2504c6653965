use super::*;
use std::sync::Mutex;

/// A clock that a test sets, in seconds.
#[derive(Clone, Default)]
struct Seconds(Arc<Mutex<f64>>);

impl Seconds {
    fn pass(&self, seconds: f64) {
        *self.0.lock().unwrap() += seconds;
    }

    fn clock(&self) -> Clock {
        let seconds = Arc::clone(&self.0);
        Arc::new(move || Duration::from_secs_f64(*seconds.lock().unwrap()))
    }
}

fn arguments(eval_strategy: IntervalStrategy) -> TrainingArguments {
    TrainingArguments { eval_strategy, ..Default::default() }
}

fn begin(arguments: &TrainingArguments, state: &TrainerState, seconds: &Seconds) -> Pace {
    let mut pace = Pace::new(seconds.clock());
    pace.train_begin(&CallbackContext { arguments, state, resumed_from: None });
    pace
}

fn evaluate(pace: &mut Pace, state: &TrainerState, seconds: &Seconds, time: f64) {
    for batches_done in 1..=4 {
        seconds.pass(time / 4.0);
        pace.prediction_step(EvaluationProgress { batches_done, num_batches: 4 });
    }
    pace.evaluated(state);
}

fn left(pace: &Pace) -> (f64, bool) {
    let TimeLeft { time, is_lower_bound } = pace.time_left().unwrap();
    (time.as_secs_f64().round(), is_lower_bound)
}

/// Three epochs of 10 steps. A step takes 2 s, the first one 9 s, an evaluation 8 s.
#[test]
fn the_time_left_counts_steps_and_evaluations() {
    let seconds = Seconds::default();
    let mut state = TrainerState { max_steps: 30, num_train_epochs: 3, ..Default::default() };
    let mut pace = begin(&arguments(IntervalStrategy::Epoch), &state, &seconds);
    assert_eq!((pace.time_left(), pace.time_left_text().as_str()), (None, "? left"));
    let step = |pace: &mut Pace, state: &mut TrainerState| {
        seconds.pass(if state.global_step == 0 { 9.0 } else { 2.0 });
        state.global_step += 1;
        state.epoch = state.global_step as f64 / 10.0;
        state.num_input_tokens_seen += 100;
        pace.step_end(state);
    };
    step(&mut pace, &mut state);
    assert_eq!(left(&pace), (9.0 * 29.0, true), "nothing else is known yet");
    step(&mut pace, &mut state);
    assert_eq!(left(&pace), (2.0 * 28.0, true));
    assert_eq!(pace.time_left_text(), ">56s left");
    (3..=10).for_each(|_| step(&mut pace, &mut state));
    assert_eq!(left(&pace), (40.0, true));

    pace.prediction_step(EvaluationProgress { batches_done: 0, num_batches: 4 });
    seconds.pass(2.0);
    pace.prediction_step(EvaluationProgress { batches_done: 1, num_batches: 4 });
    assert_eq!(left(&pace), (40.0 + 6.0 + 16.0, false), "the rest of this evaluation, and two more");
    assert_eq!(pace.figures_text(), "evaluating 1/4  50 tok/s");
    seconds.pass(6.0);
    pace.prediction_step(EvaluationProgress { batches_done: 4, num_batches: 4 });
    pace.evaluated(&state);
    assert_eq!(left(&pace), (40.0 + 16.0, false));

    (11..=20).for_each(|_| step(&mut pace, &mut state));
    assert_eq!(left(&pace), (20.0 + 16.0, false));
    evaluate(&mut pace, &state, &seconds, 8.0);
    assert_eq!(left(&pace), (20.0 + 8.0, false));
    (21..=30).for_each(|_| step(&mut pace, &mut state));
    assert_eq!((left(&pace), pace.time_left_text().as_str()), ((8.0, false), "8s left"), "one evaluation is left");
    evaluate(&mut pace, &state, &seconds, 8.0);
    assert_eq!((left(&pace), pace.time_left_text().as_str()), ((0.0, false), "saving"));
}

#[test]
fn evaluations_are_counted_as_the_strategy_asks_for_them() {
    let count = |arguments: &TrainingArguments, (step, max_steps): (u64, u64), evaluated_at: Option<u64>| {
        let state = TrainerState {
            global_step: step,
            epoch: step as f64 / 4.0,
            max_steps,
            num_train_epochs: max_steps.div_ceil(4),
            eval_steps: 3,
            ..Default::default()
        };
        let mut pace = begin(arguments, &state, &Seconds::default());
        pace.evaluated_at = evaluated_at;
        pace.evaluations_left()
    };
    let steps = arguments(IntervalStrategy::Steps);
    assert_eq!(count(&steps, (0, 10), None), 4, "at 3, 6, 9 and 10");
    assert_eq!(count(&steps, (0, 9), None), 3);
    assert_eq!(count(&steps, (3, 10), None), 4);
    assert_eq!(count(&steps, (3, 10), Some(3)), 3);
    assert_eq!(count(&steps, (9, 10), Some(9)), 1);
    assert_eq!(count(&steps, (10, 10), Some(9)), 1);
    assert_eq!(count(&steps, (10, 10), Some(10)), 0);
    let delayed = TrainingArguments { eval_delay: 7.0, ..steps };
    assert_eq!(count(&delayed, (0, 10), None), 2);
    let epochs = arguments(IntervalStrategy::Epoch);
    assert_eq!(count(&epochs, (0, 12), None), 3);
    assert_eq!(count(&epochs, (4, 12), None), 3);
    assert_eq!(count(&epochs, (4, 12), Some(4)), 2);
    assert_eq!(count(&epochs, (5, 12), Some(4)), 2);
    assert_eq!(count(&epochs, (10, 10), Some(8)), 1, "the run ends within an epoch");
    assert_eq!(count(&epochs, (10, 10), Some(10)), 0);
    assert_eq!(count(&TrainingArguments { eval_delay: 2.0, ..epochs }, (0, 12), None), 2);
    assert_eq!(count(&arguments(IntervalStrategy::No), (0, 12), None), 0);
}

#[test]
fn a_resumed_run_does_not_count_the_evaluation_of_its_checkpoint() {
    let entry = serde_json::json!({ "eval_loss": 1.0, "step": 10 }).as_object().unwrap().clone();
    let state = TrainerState {
        global_step: 10,
        epoch: 1.0,
        max_steps: 30,
        num_train_epochs: 3,
        log_history: vec![entry],
        ..Default::default()
    };
    let pace = begin(&arguments(IntervalStrategy::Epoch), &state, &Seconds::default());
    assert_eq!(pace.evaluations_left(), 2);
}

#[test]
fn figures_are_short() {
    let short = [0.0, 0.5, 2.71449, 12.3456, 123.456, 99999.0, 1e-9].map(short_loss);
    assert_eq!(short, ["0.0000", "0.5000", "2.714", "12.35", "123.5", "1.00e5", "1.00e-9"]);
    assert_eq!(
        [0.0, 950.4, 999.6, 12_345.0, 999_949.0, 1_234_567.0].map(short_count),
        ["0", "950", "1.0k", "12.3k", "999.9k", "1.2M"]
    );
    let times = [0, 59, 60, 250, 3_599, 3_720, 86_399, 97_200].map(|seconds| short_time(Duration::from_secs(seconds)));
    assert_eq!(times, ["0s", "59s", "1m00s", "4m10s", "59m59s", "1h02m", "23h59m", "1d03h"]);
}
