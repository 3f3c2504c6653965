//! A store that writes while training continues: the content of its checkpoints, and the moments of
//! `on_save`.

use super::*;
use crate::{Saved, WriteCheckpoint};
use std::collections::BTreeMap;

/// A store that returns an outcome after `delay` polls, or when the loop waits for it. The saves of
/// the `failing` steps fail.
struct LateStore {
    plain: PlainStore,
    delay: usize,
    failing: Vec<u64>,
    under_way: Option<(u64, WriteCheckpoint)>,
    polls: usize,
}

impl LateStore {
    fn new(output_dir: &Path, delay: usize, failing: &[u64]) -> Self {
        Self { plain: PlainStore::new(output_dir), delay, failing: failing.to_vec(), under_way: None, polls: 0 }
    }
}

impl CheckpointStore for LateStore {
    fn save(&mut self, global_step: u64, write: WriteCheckpoint) {
        assert!(self.under_way.is_none(), "one at a time");
        (self.under_way, self.polls) = (Some((global_step, write)), 0);
    }

    fn poll(&mut self) -> Option<Saved> {
        self.polls += 1;
        if self.polls > self.delay { self.wait() } else { None }
    }

    /// Writes as late as possible. The files must not show what the learner did since the save.
    fn wait(&mut self) -> Option<Saved> {
        let (global_step, write) = self.under_way.take()?;
        if self.failing.contains(&global_step) {
            return Some(Saved { global_step, outcome: Err("no space left".into()) });
        }
        self.plain.save(global_step, write);
        self.plain.wait()
    }

    fn path(&self, global_step: u64) -> PathBuf {
        self.plain.path(global_step)
    }
}

/// Passes the state to a function at the beginning of a step and at a save.
struct Watch<F>(F);

impl<F: FnMut(&'static str, &TrainerState, Option<&Path>)> Callback for Watch<F> {
    fn on_step_begin(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        (self.0)("on_step_begin", context.state, None);
        Ok(())
    }

    fn on_save(&mut self, context: &CallbackContext<'_>, checkpoint: &Path, _requests: &mut Requests) -> EventResult {
        (self.0)("on_save", context.state, Some(checkpoint));
        Ok(())
    }
}

/// Losses of the evaluations after epochs 1 to 3, which end with steps 3, 6 and 9.
fn learner(losses: [f64; 3]) -> ToyLearner {
    ToyLearner::default().with_eval_loss(move |step| losses[(step as usize).div_ceil(3) - 1])
}

fn run(
    bench: &Bench,
    mut store: LateStore,
    losses: [f64; 3],
    watch: impl FnMut(&'static str, &TrainerState, Option<&Path>),
) -> Result<TrainOutput> {
    let arguments = TrainingArguments { load_best_model_at_end: true, ..bench.arguments() };
    let mut learner = learner(losses);
    let builder = Trainer::builder(arguments, &mut learner, &bench.train).eval_source(&bench.eval);
    builder.store(&mut store).callback(Watch(watch)).build()?.train()
}

/// The contents of the files of all checkpoints, without times and without the path of the folder.
fn contents(bench: &Bench) -> BTreeMap<PathBuf, String> {
    let mut contents = BTreeMap::new();
    for step in [3, 6, 9] {
        let folder = bench.path().join(format!("checkpoint-{step}"));
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mut text = std::fs::read_to_string(&path).unwrap();
            if path.ends_with(TrainerState::FILE_NAME) {
                let mut state = TrainerState::load(&path).unwrap();
                state.log_history = timeless(&state.log_history);
                text = serde_json::to_string(&state).unwrap();
            }
            let text = text.replace(&bench.path().display().to_string(), "");
            contents.insert(path.strip_prefix(bench.path()).unwrap().to_owned(), text);
        }
    }
    contents
}

#[test]
fn a_checkpoint_that_is_written_later_holds_the_state_of_its_step() {
    let losses = [2.0, 1.0, 3.0];
    let at_once = Bench::new();
    run(&at_once, LateStore::new(at_once.path(), 0, &[]), losses, |_, _, _| ()).unwrap();
    let expected = contents(&at_once);
    assert_eq!(expected.len(), 15, "{:?}", expected.keys());
    for delay in [1, 2, 100] {
        let late = Bench::new();
        let output = run(&late, LateStore::new(late.path(), delay, &[]), losses, |_, _, _| ()).unwrap();
        assert_eq!(contents(&late), expected, "outcome after {delay} polls");
        assert_eq!(output.state.best_model_checkpoint, Some(late.path().join("checkpoint-6")));
        assert_eq!((output.saves.num_saved, output.saves.num_failed), (3, 0));
    }
}

#[test]
fn on_save_and_the_best_checkpoint_wait_until_the_checkpoint_exists() {
    for (delay, saved_at) in [(0, [3, 6, 9]), (2, [5, 8, 9]), (100, [6, 9, 9])] {
        let bench = Bench::new();
        let mut saved = Vec::new();
        let watch = |event, state: &TrainerState, checkpoint: Option<&Path>| {
            let best = state.best_model_checkpoint.as_deref();
            assert!(best.is_none_or(Path::exists), "{event} at step {}: {best:?} is not there", state.global_step);
            if let Some(checkpoint) = checkpoint {
                saved.push((checkpoint.file_name().unwrap().to_str().unwrap().to_owned(), state.global_step));
                // A callback that deletes checkpoints now must see which one is the best.
                assert!(best.is_some(), "{checkpoint:?} at step {}", state.global_step);
            }
        };
        run(&bench, LateStore::new(bench.path(), delay, &[]), [3.0, 2.0, 1.0], watch).unwrap();
        let expected: Vec<_> =
            [3, 6, 9].iter().zip(saved_at).map(|(step, at)| (format!("checkpoint-{step}"), at)).collect();
        assert_eq!(saved, expected, "outcome after {delay} polls");
    }
}

#[test]
fn a_best_model_that_could_not_be_saved_is_not_the_best() {
    for delay in [0, 2, 100] {
        let bench = Bench::new();
        let store = LateStore::new(bench.path(), delay, &[6]);
        let output = run(&bench, store, [3.0, 1.0, 2.0], |_, _, _| ()).unwrap();
        let state = output.state;
        // Epoch 3 is worse than the lost checkpoint and better than epoch 1, so it is the best one
        // that exists.
        assert_eq!((state.best_global_step, state.best_metric), (Some(9), Some(2.0)), "{delay}");
        assert_eq!(state.best_model_checkpoint, Some(bench.path().join("checkpoint-9")), "{delay}");
        assert_eq!(steps_with(&state.log_history, "save_error").len(), 1);

        let bench = Bench::new();
        let store = LateStore::new(bench.path(), delay, &[9]);
        let state = run(&bench, store, [3.0, 2.0, 1.0], |_, _, _| ()).unwrap().state;
        assert_eq!((state.best_global_step, state.best_metric), (Some(6), Some(2.0)), "{delay}");
        assert_eq!(state.best_model_checkpoint, Some(bench.path().join("checkpoint-6")), "{delay}");
    }
}

#[test]
fn an_error_waits_for_the_checkpoint_under_way() {
    let bench = Bench::new();
    let mut learner = ToyLearner::default().with_step_loss(|step| if step == 5 { f64::NAN } else { 1.0 });
    let mut store = LateStore::new(bench.path(), 100, &[]);
    let arguments = TrainingArguments { max_bad_steps: 1, ..bench.arguments() };
    let trainer = Trainer::builder(arguments, &mut learner, &bench.train)
        .eval_source(&bench.eval)
        .store(&mut store)
        .build()
        .unwrap();
    let error = trainer.train().unwrap_err();
    let Error::BadSteps { step: 5, checkpoint, .. } = error else { panic!("{error}") };
    assert_eq!(checkpoint, Some(bench.path().join("checkpoint-3")));
    assert!(bench.path().join("checkpoint-3/model.json").exists());
}
