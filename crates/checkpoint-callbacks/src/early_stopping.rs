//! Stops a run whose evaluations no longer improve.

use crate::best::deciding_metric;
use serde_json::{Value, json};
use trainer_core::{Callback, CallbackContext, EventResult, IntervalStrategy, LogEntry, Requests};

/// Stops training when `patience` evaluations in a row do not improve on the best metric by more
/// than `threshold`, like HF's `EarlyStoppingCallback`. The metric is the one that decides which
/// checkpoint is best. This callback remembers the best metric itself, so it also works when
/// nothing is saved or marked as best.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    patience: u64,
    threshold: f64,
    /// Evaluations since the last improvement.
    counter: u64,
    /// The best metric of all evaluations.
    best: Option<f64>,
}

impl EarlyStopping {
    /// Stops after `patience` evaluations in a row without improvement.
    pub fn new(patience: u64) -> Self {
        Self { patience, threshold: 0.0, counter: 0, best: None }
    }

    /// Counts an evaluation as an improvement only when the metric is better by more than
    /// `threshold`. Default: 0, as in HF.
    #[must_use]
    pub fn with_threshold(self, threshold: f64) -> Self {
        Self { threshold, ..self }
    }
}

impl Callback for EarlyStopping {
    /// HF's name, so that HF's state of this callback can be restored here and the other way round.
    fn name(&self) -> &str {
        "EarlyStoppingCallback"
    }

    fn on_train_begin(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
        if context.arguments.eval_strategy == IntervalStrategy::No {
            return Err("early stopping needs evaluations; set eval_strategy to steps or epoch".into());
        }
        // The state that HF saves does not contain the best metric.
        self.best = self.best.or(context.state.best_metric);
        // A resumed run that was already stopped early does not train further.
        if self.counter >= self.patience.max(1) {
            requests.request_stop();
        }
        Ok(())
    }

    fn on_evaluate(
        &mut self,
        context: &CallbackContext<'_>,
        metrics: &LogEntry,
        requests: &mut Requests,
    ) -> EventResult {
        let metric = deciding_metric(context.arguments, metrics)?;
        let is_better = context.arguments.is_better(metric, self.best);
        let by_enough = self.best.is_none_or(|best| (metric - best).abs() > self.threshold);
        self.counter = if is_better && by_enough { 0 } else { self.counter.saturating_add(1) };
        if is_better {
            self.best = Some(metric);
        }
        if self.counter >= self.patience {
            requests.request_stop();
        }
        Ok(())
    }

    fn state(&self) -> Option<Value> {
        Some(json!({
            "args": { "early_stopping_patience": self.patience, "early_stopping_threshold": self.threshold },
            "attributes": { "early_stopping_patience_counter": self.counter, "best_metric": self.best },
        }))
    }

    /// Restores the counter and the best metric, if there is one. Patience and threshold stay those
    /// of this run.
    fn restore(&mut self, state: &Value) -> EventResult {
        let counter = &state["attributes"]["early_stopping_patience_counter"];
        self.counter = counter.as_u64().ok_or("early_stopping_patience_counter is missing or not a count")?;
        self.best = state["attributes"]["best_metric"].as_f64();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trainer_core::{TrainerState, TrainingArguments};

    /// The number of the evaluation, counted from 1, after which it stops.
    fn stops_after(mut early_stopping: EarlyStopping, losses: &[f64]) -> Option<usize> {
        let arguments = TrainingArguments::documented_recipe();
        let state = TrainerState::default(); // nothing is marked or saved
        for (index, loss) in losses.iter().enumerate() {
            let metrics = json!({ "eval_loss": loss });
            let mut requests = Requests::default();
            let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
            early_stopping.on_evaluate(&context, metrics.as_object().unwrap(), &mut requests).unwrap();
            if requests.is_stop_requested() {
                return Some(index + 1);
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
        // Each is better by only 0.1, but becomes the new best, as in HF.
        let losses = [3.0, 2.9, 2.8, 2.7];
        assert_eq!(stops_after(EarlyStopping::new(2).with_threshold(0.5), &losses), Some(3));
        assert_eq!(stops_after(EarlyStopping::new(2).with_threshold(0.05), &losses), None);
    }

    #[test]
    fn a_metric_that_is_not_finite_counts_as_no_improvement() {
        assert_eq!(stops_after(EarlyStopping::new(2), &[f64::NAN, f64::NAN]), Some(2));
    }

    /// Whether a run that starts with this state stops at once.
    fn stops_at_once(early_stopping: &mut EarlyStopping, best_metric: Option<f64>) -> bool {
        let state = TrainerState { best_metric, ..Default::default() };
        let context =
            CallbackContext { arguments: &TrainingArguments::documented_recipe(), state: &state, resumed_from: None };
        let mut requests = Requests::default();
        early_stopping.on_train_begin(&context, &mut requests).unwrap();
        requests.is_stop_requested()
    }

    #[test]
    fn counter_and_best_come_back() {
        let mut saved = EarlyStopping::new(3);
        (saved.counter, saved.best) = (2, Some(0.5));
        let mut restored = EarlyStopping::new(5);
        restored.restore(&saved.state().unwrap()).unwrap();
        assert_eq!((restored.patience, restored.counter, restored.best), (5, 2, Some(0.5)));
        assert!(restored.restore(&json!({})).is_err());
    }

    #[test]
    fn a_state_without_a_best_uses_that_of_the_run() {
        let mut restored = EarlyStopping::new(5);
        restored.restore(&json!({ "attributes": { "early_stopping_patience_counter": 2 } })).unwrap();
        assert!(!stops_at_once(&mut restored, Some(0.7)));
        assert_eq!((restored.counter, restored.best), (2, Some(0.7)));
    }

    #[test]
    fn a_stopped_run_stays_stopped_unless_patience_grew() {
        let mut saved = EarlyStopping::new(2);
        saved.counter = u64::MAX; // counting on from the value in a file must not overflow
        for (patience, stops) in [(2, true), (0, true), (u64::MAX, true)] {
            let mut restored = EarlyStopping::new(patience);
            restored.restore(&saved.state().unwrap()).unwrap();
            assert_eq!(stops_at_once(&mut restored, None), stops);
        }
        assert_eq!(stops_after(saved, &[f64::NAN]), Some(1));
        for patience in [0, 1] {
            assert!(!stops_at_once(&mut EarlyStopping::new(patience), None), "a new run trains");
        }
        let mut more_patient = EarlyStopping::new(3);
        more_patient.counter = 2;
        assert!(!stops_at_once(&mut more_patient, None));
    }

    #[test]
    fn without_evaluations_it_is_an_error() {
        let arguments =
            TrainingArguments { eval_strategy: IntervalStrategy::No, ..TrainingArguments::documented_recipe() };
        let context = CallbackContext { arguments: &arguments, state: &TrainerState::default(), resumed_from: None };
        assert!(EarlyStopping::new(1).on_train_begin(&context, &mut Requests::default()).is_err());
    }
}
