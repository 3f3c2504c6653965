//! Watches the training loss for spikes.

use serde_json::{Value, json};
use std::collections::VecDeque;
use trainer_core::{Callback, CallbackContext, EventResult, LogEntry, Requests};

/// The median is taken of at most this many logged losses.
const MAX_LOSSES: usize = 16;

/// There is no spike before this many losses were logged. The first losses of a run fall fast, so
/// their median says little.
const MIN_LOSSES: usize = 4;

/// Warns when a logged training loss exceeds the median of the 16 before it by a factor. Spikes
/// count in later medians, so a loss that stays high is reported until half of the 16 are high.
#[derive(Clone, Debug, PartialEq)]
pub struct LossSpike {
    factor: f64,
    reaction: OnSpike,
    /// The last logged losses, oldest first.
    losses: VecDeque<f64>,
    num_spikes: u64,
}

/// What happens after a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnSpike {
    /// A warning.
    #[default]
    Warn,
    /// A warning, and the run ends after this step. No save is requested, so that the run can be
    /// resumed from a checkpoint before the spike.
    Stop,
}

impl LossSpike {
    /// Treats a loss above `factor` times the median as a spike. A factor that is not a finite
    /// number above 1 is an error when training begins.
    pub fn new(factor: f64) -> Self {
        Self { factor, reaction: OnSpike::Warn, losses: VecDeque::new(), num_spikes: 0 }
    }

    /// Sets what happens after a spike. Default: [`OnSpike::Warn`].
    #[must_use]
    pub fn with_reaction(self, reaction: OnSpike) -> Self {
        Self { reaction, ..self }
    }

    /// The median of the last losses, if there are enough of them.
    fn median(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.losses.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0..MIN_LOSSES => None,
            count if count % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }
}

impl Callback for LossSpike {
    fn on_train_begin(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        if self.factor.is_finite() && self.factor > 1.0 {
            return Ok(());
        }
        Err(format!("the factor of a loss spike is {}; it must be a number above 1", self.factor).into())
    }

    fn on_log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry, requests: &mut Requests) -> EventResult {
        let Some(loss) = entry.get("loss").and_then(Value::as_f64) else { return Ok(()) };
        if let Some(median) = self.median().filter(|median| loss > self.factor * median) {
            self.num_spikes = self.num_spikes.saturating_add(1);
            let step = context.state.global_step;
            let action = match self.reaction {
                OnSpike::Warn => "",
                OnSpike::Stop => "; the run ends",
            };
            tracing::warn!(
                step,
                loss,
                median,
                "the loss at step {step} is {loss:.4}, more than {} times the usual {median:.4}{action}",
                self.factor
            );
            if self.reaction == OnSpike::Stop {
                requests.request_stop();
            }
        }
        self.losses.push_back(loss);
        if self.losses.len() > MAX_LOSSES {
            self.losses.pop_front();
        }
        Ok(())
    }

    fn state(&self) -> Option<Value> {
        Some(json!({
            "args": { "factor": self.factor },
            "attributes": { "losses": self.losses, "num_spikes": self.num_spikes },
        }))
    }

    /// Restores the losses and the number of spikes. The factor stays that of this run.
    fn restore(&mut self, state: &Value) -> EventResult {
        let losses = state["attributes"]["losses"].as_array().ok_or("losses is missing or not a list")?;
        let losses = losses.iter().map(|loss| loss.as_f64().ok_or("a loss is not a number"));
        self.losses = losses.collect::<Result<_, _>>()?;
        self.losses.drain(..self.losses.len().saturating_sub(MAX_LOSSES));
        self.num_spikes = state["attributes"]["num_spikes"].as_u64().ok_or("num_spikes is missing or not a count")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_events;
    use std::path::Path;
    use trainer_core::testing::{PlainStore, ToyLearner, ToySource};
    use trainer_core::{SaveStrategy, TrainOutput, Trainer, TrainingArguments};

    /// A run of 40 logged steps with the losses of a function. Returns its warnings too.
    fn run(
        dir: &Path,
        spike: LossSpike,
        loss: impl Fn(u64) -> f64 + 'static,
        resume: Option<u64>,
    ) -> (TrainOutput, Vec<String>) {
        let arguments = TrainingArguments {
            output_dir: dir.to_owned(),
            num_train_epochs: 10.0,
            logging_steps: 1.0,
            save_strategy: SaveStrategy::Steps,
            save_steps: 1.0,
            ..TrainingArguments::documented_recipe()
        };
        let (train, eval) = (ToySource::new(32, 8), ToySource::new(8, 8));
        let (mut learner, mut store) = (ToyLearner::default().with_step_loss(loss), PlainStore::new(dir));
        let builder = Trainer::builder(arguments, &mut learner, &train).eval_source(&eval).store(&mut store);
        let mut trainer = builder.callback(spike).build().unwrap();
        if let Some(step) = resume {
            trainer.resume_from(&dir.join(format!("checkpoint-{step}"))).unwrap();
        }
        let (output, mut events) = with_events(|| trainer.train().unwrap());
        events.retain(|event| event.starts_with("WARN: the loss at step"));
        (output, events)
    }

    fn falling_with_spike_at(at: u64, height: f64) -> impl Fn(u64) -> f64 {
        move |step| if step == at { height } else { 3.0 - 0.01 * step as f64 }
    }

    #[test]
    fn a_spike_is_reported_once_with_step_and_figures() {
        let dir = tempfile::tempdir().unwrap();
        let (output, warnings) = run(dir.path(), LossSpike::new(1.5), falling_with_spike_at(20, 6.0), None);
        assert_eq!(warnings, ["WARN: the loss at step 20 is 6.0000, more than 1.5 times the usual 2.8850"]);
        assert_eq!(output.state.global_step, 40);
        let (_, warnings) = run(dir.path(), LossSpike::new(2.5), falling_with_spike_at(20, 6.0), None);
        assert_eq!(warnings, [""; 0]);
        let (_, warnings) = run(dir.path(), LossSpike::new(1.5), falling_with_spike_at(4, 6.0), None);
        assert_eq!(warnings, [""; 0], "too early to tell");
    }

    #[test]
    fn a_loss_that_stays_high_is_no_longer_a_spike() {
        let dir = tempfile::tempdir().unwrap();
        let (_, warnings) = run(dir.path(), LossSpike::new(1.5), |step| if step < 20 { 1.0 } else { 2.0 }, None);
        assert_eq!(warnings.len(), MAX_LOSSES / 2, "{warnings:?}");
    }

    #[test]
    fn a_spike_may_end_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let spike = LossSpike::new(1.5).with_reaction(OnSpike::Stop);
        let (output, warnings) = run(dir.path(), spike, falling_with_spike_at(20, 6.0), None);
        assert_eq!(output.state.global_step, 20);
        assert!(warnings[0].ends_with("the usual 2.8850; the run ends"), "{warnings:?}");
    }

    #[test]
    fn a_resumed_run_knows_the_earlier_losses() {
        let dir = tempfile::tempdir().unwrap();
        let (straight, _) = run(dir.path(), LossSpike::new(1.5), falling_with_spike_at(20, 6.0), None);
        let expected = straight.state.stateful_callbacks["LossSpike"].clone();
        assert_eq!(expected["attributes"]["num_spikes"], 1);
        let (resumed, warnings) = run(dir.path(), LossSpike::new(1.5), falling_with_spike_at(20, 6.0), Some(19));
        assert_eq!((resumed.state.stateful_callbacks["LossSpike"].clone(), warnings.len()), (expected, 1));

        let mut restored = LossSpike::new(2.0);
        for broken in [json!({}), json!({ "attributes": { "losses": ["x"], "num_spikes": 0 } })] {
            assert!(restored.restore(&broken).is_err());
        }
        let long = json!({ "attributes": { "losses": vec![1.0; 1000], "num_spikes": u64::MAX } });
        restored.restore(&long).unwrap();
        assert_eq!(restored.losses.len(), MAX_LOSSES);
    }

    #[test]
    fn an_impossible_factor_is_refused() {
        for factor in [1.0, 0.0, f64::NAN, f64::INFINITY] {
            let (arguments, state) = (TrainingArguments::default(), trainer_core::TrainerState::default());
            let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
            let error = LossSpike::new(factor).on_train_begin(&context, &mut Requests::default()).unwrap_err();
            assert!(error.to_string().contains(&format!("is {factor}; it must be a number above 1")), "{error}");
        }
    }
}
