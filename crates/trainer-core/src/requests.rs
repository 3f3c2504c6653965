//! What callbacks can ask the loop to do.

use crate::plan::Due;

/// Requests of the callbacks to the loop. A callback can add a request, but it cannot take one
/// back, so no callback undoes what another one asked for.
///
/// The loop serves each request once, at the next point where it is possible:
///
/// - `log`, `evaluate` and `save`, in this order: after the current optimizer step, or at the end
///   of the epoch. A save that is requested in `on_evaluate` follows that evaluation at once.
/// - `stop`: after these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    log: bool,
    evaluate: bool,
    save: bool,
    stop: bool,
    best_metric: Option<f64>,
}

impl Requests {
    /// Asks for a log of the steps since the last log.
    pub fn request_log(&mut self) {
        self.log = true;
    }

    /// Asks for an evaluation.
    pub fn request_evaluate(&mut self) {
        self.evaluate = true;
    }

    /// Asks for a checkpoint.
    pub fn request_save(&mut self) {
        self.save = true;
    }

    /// Asks to end training after the current step. The logs and evaluations at the end of the
    /// epoch are left to a resumed run, which does them when it has finished the epoch. With the
    /// save strategy `epoch`, the loop saves a checkpoint before it stops.
    pub fn request_stop(&mut self) {
        self.stop = true;
    }

    /// In `on_evaluate`: says that this evaluation is the best so far, with this metric. When all
    /// callbacks have seen the event, the state records it as `best_metric` and `best_global_step`.
    /// It records `best_model_checkpoint` when a checkpoint of this step is complete, if there is
    /// one.
    pub fn mark_best(&mut self, metric: f64) {
        self.best_metric = Some(metric);
    }

    /// Whether a callback has asked to stop.
    pub fn is_stop_requested(&self) -> bool {
        self.stop
    }

    pub(crate) fn add(&mut self, due: Due) {
        self.log |= due.log;
        self.evaluate |= due.evaluate;
        self.save |= due.save;
    }

    pub(crate) fn is_any_due(&self) -> bool {
        self.log || self.evaluate || self.save
    }

    pub(crate) fn take_log(&mut self) -> bool {
        std::mem::take(&mut self.log)
    }

    pub(crate) fn take_evaluate(&mut self) -> bool {
        std::mem::take(&mut self.evaluate)
    }

    pub(crate) fn take_save(&mut self) -> bool {
        std::mem::take(&mut self.save)
    }

    pub(crate) fn take_best_metric(&mut self) -> Option<f64> {
        self.best_metric.take()
    }

    /// HF's `TrainerControl`. HF's Trainer expects it among the `stateful_callbacks` of a
    /// checkpoint; this crate does not read it.
    pub(crate) fn to_trainer_control(&self, status: TrainingStatus) -> serde_json::Value {
        serde_json::json!({
            "args": {
                "should_epoch_stop": false,
                "should_evaluate": self.evaluate,
                "should_log": self.log,
                "should_save": self.save,
                "should_training_stop": self.stop || status == TrainingStatus::Complete,
            },
            "attributes": {},
        })
    }
}

/// Whether all steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrainingStatus {
    Underway,
    Complete,
}
