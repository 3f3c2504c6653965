//! Stops a run that has stopped getting better.

use serde_json::{Value, json};
use trainer_core::{Callback, Context, EventResult, IntervalStrategy, LogEntry, Requests};

use crate::best::deciding_metric;

/// Stops training when `patience` evaluations in a row do not better the best metric by more than `threshold`, as HF's
/// `EarlyStoppingCallback`. The metric is the one that decides which checkpoint is best.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    patience: u64,
    threshold: f64,
    /// Evaluations since the last that was better.
    counter: u64,
}

impl EarlyStopping {
    /// Stops after `patience` evaluations without improvement.
    pub fn new(patience: u64) -> Self {
        Self { patience, threshold: 0.0, counter: 0 }
    }

    /// Counts an evaluation as better only when it is so by more than `threshold`. Default 0.
    #[must_use]
    pub fn with_threshold(self, threshold: f64) -> Self {
        Self { threshold, ..self }
    }
}

impl Callback for EarlyStopping {
    /// HF's name, under which its state is found by either.
    fn name(&self) -> &str {
        "EarlyStoppingCallback"
    }

    fn on_train_begin(&mut self, context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        if context.arguments.eval_strategy == IntervalStrategy::No {
            return Err("early stopping needs evaluations: set eval_strategy to steps or epoch".into());
        }
        Ok(())
    }

    fn on_evaluate(&mut self, context: &Context<'_>, metrics: &LogEntry, requests: &mut Requests) -> EventResult {
        let metric = deciding_metric(context.arguments, metrics)?;
        let best = context.state.best_metric;
        if context.arguments.is_better(metric, best) {
            // So that it works without another callback that looks for the best.
            requests.mark_best(metric);
        }
        let by_enough = best.is_none_or(|best| (metric - best).abs() > self.threshold);
        self.counter = if context.arguments.is_better(metric, best) && by_enough { 0 } else { self.counter + 1 };
        if self.counter >= self.patience {
            requests.request_stop();
        }
        Ok(())
    }

    fn state(&self) -> Option<Value> {
        Some(json!({
            "args": { "early_stopping_patience": self.patience, "early_stopping_threshold": self.threshold },
            "attributes": { "early_stopping_patience_counter": self.counter },
        }))
    }

    /// Takes the counter; patience and threshold are those of this run's arguments.
    fn restore(&mut self, state: &Value) -> EventResult {
        let counter = &state["attributes"]["early_stopping_patience_counter"];
        self.counter = counter.as_u64().ok_or("early_stopping_patience_counter is missing or not a count")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trainer_core::{TrainerState, TrainingArguments};

    use super::*;

    /// The evaluation, counted from 1, after which it stops.
    fn stops_after(mut early_stopping: EarlyStopping, losses: &[f64]) -> Option<usize> {
        let arguments = TrainingArguments::default();
        let mut state = TrainerState::default();
        for (index, loss) in losses.iter().enumerate() {
            let metrics = json!({ "eval_loss": loss });
            let mut requests = Requests::default();
            let context = Context { arguments: &arguments, state: &state };
            early_stopping.on_evaluate(&context, metrics.as_object().unwrap(), &mut requests).unwrap();
            if requests.is_stop_requested() {
                return Some(index + 1);
            }
            if arguments.is_better(*loss, state.best_metric) {
                state.best_metric = Some(*loss);
            }
        }
        None
    }

    #[test]
    fn patience_counts_evaluations_in_a_row() {
        let losses = [3.0, 2.0, 2.5, 1.9, 1.95, 1.9, 1.8];
        assert_eq!(stops_after(EarlyStopping::new(1), &losses), Some(3));
        assert_eq!(stops_after(EarlyStopping::new(2), &losses), Some(6)); // an equal loss is no improvement
        assert_eq!(stops_after(EarlyStopping::new(3), &losses), None);
    }

    #[test]
    fn the_threshold_is_against_the_best() {
        // Each is better by 0.1 only; the best moves on all the same, as with HF.
        let losses = [3.0, 2.9, 2.8, 2.7];
        assert_eq!(stops_after(EarlyStopping::new(2).with_threshold(0.5), &losses), Some(3));
        assert_eq!(stops_after(EarlyStopping::new(2).with_threshold(0.05), &losses), None);
    }

    #[test]
    fn a_metric_that_is_not_finite_counts_as_no_improvement() {
        assert_eq!(stops_after(EarlyStopping::new(2), &[f64::NAN, f64::NAN]), Some(2));
    }

    #[test]
    fn the_counter_comes_back() {
        let mut saved = EarlyStopping::new(3);
        saved.counter = 2;
        let mut restored = EarlyStopping::new(5);
        restored.restore(&saved.state().unwrap()).unwrap();
        assert_eq!((restored.patience, restored.counter), (5, 2));
        assert!(restored.restore(&json!({})).is_err());
    }

    #[test]
    fn without_evaluations_it_is_an_error() {
        let arguments = TrainingArguments { eval_strategy: IntervalStrategy::No, ..Default::default() };
        let context = Context { arguments: &arguments, state: &TrainerState::default() };
        assert!(EarlyStopping::new(1).on_train_begin(&context, &mut Requests::default()).is_err());
    }
}
