//! What callbacks may ask of the loop.

use crate::plan::Due;

/// Requests to the loop. They can only be added, so no callback undoes what another asked for.
///
/// Each is honoured once, at the first point that fits: `log`, `evaluate` and `save`, in this
/// order, after the current optimizer step or at the end of the epoch (a request made in
/// `on_evaluate` to save is honoured right after it); `stop` once these are done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    log: bool,
    evaluate: bool,
    save: bool,
    stop: bool,
    best_metric: Option<f64>,
    notices: Vec<String>,
}

impl Requests {
    /// Log the steps since the last log.
    pub fn request_log(&mut self) {
        self.log = true;
    }

    /// Evaluate.
    pub fn request_evaluate(&mut self) {
        self.evaluate = true;
    }

    /// Save a checkpoint.
    pub fn request_save(&mut self) {
        self.save = true;
    }

    /// End training after this step. What the strategies would do at the end of the epoch is left
    /// to a resumed run, but for the checkpoint of `save_strategy=epoch`.
    pub fn request_stop(&mut self) {
        self.stop = true;
    }

    /// In `on_evaluate`: this evaluation is the best so far. It becomes `best_metric` and
    /// `best_global_step` of the state when all callbacks have seen the event, and
    /// `best_model_checkpoint` with the save of this step, if there is one.
    pub fn mark_best(&mut self, metric: f64) {
        self.best_metric = Some(metric);
    }

    /// Tell the user something, in one line: it reaches every callback as
    /// [`on_notice`](crate::Callback::on_notice), and so the terminal, when all have seen the
    /// current event.
    pub fn notify(&mut self, notice: impl Into<String>) {
        self.notices.push(notice.into());
    }

    /// Whether a stop was asked for.
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

    pub(crate) fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    pub(crate) fn take_best_metric(&mut self) -> Option<f64> {
        self.best_metric.take()
    }

    /// HF's `TrainerControl`, which its Trainer expects in `stateful_callbacks` of a checkpoint.
    /// Ours does not read it.
    pub(crate) fn to_trainer_control(&self, training: Training) -> serde_json::Value {
        serde_json::json!({
            "args": {
                "should_epoch_stop": false,
                "should_evaluate": self.evaluate,
                "should_log": self.log,
                "should_save": self.save,
                "should_training_stop": self.stop || training == Training::Complete,
            },
            "attributes": {},
        })
    }
}

/// Whether the last step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Training {
    Underway,
    Complete,
}
