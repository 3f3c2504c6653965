//! Progress where no bar can be drawn, as in the log file of a cluster job.

use crate::pace::{Clock, Pace, short_loss, system_clock};
use crate::{
    Callback, CallbackContext, EvaluationProgress, EventResult, IntervalStrategy, LogEntry, Requests, WindowFigures,
};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The longest time without a line.
const EVERY: Duration = Duration::from_secs(30);

/// Tells how far a run is, in a `tracing` event with a line about every 30 seconds. Use it where
/// `ProgressBar` (feature `progress-bar`) cannot be drawn.
///
/// A line is such as `step 85/540  epoch 1.57  loss 2.714  12.3k tok/s  4m10s left`, with the time
/// of day (UTC) behind it, because a log file is read later. In an
/// evaluation `evaluating 12/40` is in place of the epoch. Loss and speed are means over the last
/// 20 steps. The time left is that of all steps and evaluations that are left; `>` is before it
/// when an evaluation is to come and none was measured yet. A log entry counts as a line. A step or
/// an evaluation batch that takes longer than 30 seconds has its line when it is done.
///
/// It also tells the loss of the first step, and the mean loss of each epoch, unless the loop logs
/// it there.
pub struct ProgressLines {
    pace: Pace,
    milestones: Milestones,
    told: Duration,
    has_time_of_day: bool,
}

impl Default for ProgressLines {
    fn default() -> Self {
        Self { has_time_of_day: true, ..Self::on(system_clock()) }
    }
}

impl ProgressLines {
    /// Uses another clock: a function that returns the time since some moment. It knows no time of
    /// day.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self::on(Arc::new(clock))
    }

    fn on(clock: Clock) -> Self {
        Self { pace: Pace::new(clock), milestones: Milestones::default(), told: Duration::ZERO, has_time_of_day: false }
    }

    fn tell_if_due(&mut self) {
        let now = self.pace.now();
        if now.saturating_sub(self.told) >= EVERY {
            self.told = now;
            let pace = &self.pace;
            let line = format!("{}  {}  {}", pace.step_text(), pace.figures_text(), pace.time_left_text());
            match self.has_time_of_day {
                true => tracing::info!("{line}  {}", time_of_day()),
                false => tracing::info!("{line}"),
            }
        }
    }
}

/// Now, in UTC, for a line of a log file.
pub(crate) fn time_of_day() -> impl std::fmt::Display {
    chrono::Utc::now().format("[%Y-%m-%dT%H:%M:%SZ]")
}

impl Callback for ProgressLines {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.pace.train_begin(context);
        self.told = self.pace.now();
        Ok(())
    }

    fn on_epoch_begin(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.pace.epoch_begin();
        Ok(())
    }

    fn on_substep_end(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.tell_if_due();
        Ok(())
    }

    fn on_window_figures(
        &mut self,
        _context: &CallbackContext<'_>,
        figures: WindowFigures,
        _requests: &mut Requests,
    ) -> EventResult {
        self.pace.step_loss(figures.loss);
        Ok(())
    }

    fn on_step_end(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.pace.step_end(context.state);
        if self.milestones.step_end(context, &self.pace) {
            self.told = self.pace.now();
        }
        self.tell_if_due();
        Ok(())
    }

    fn on_epoch_end(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.milestones.epoch_end(context, &self.pace);
        Ok(())
    }

    fn on_prediction_step(
        &mut self,
        _context: &CallbackContext<'_>,
        progress: EvaluationProgress,
        _requests: &mut Requests,
    ) -> EventResult {
        self.pace.prediction_step(progress);
        self.tell_if_due();
        Ok(())
    }

    fn on_evaluate(
        &mut self,
        context: &CallbackContext<'_>,
        _metrics: &LogEntry,
        _requests: &mut Requests,
    ) -> EventResult {
        self.pace.evaluated(context.state);
        Ok(())
    }

    fn on_log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry, _requests: &mut Requests) -> EventResult {
        self.pace.logged(entry);
        self.milestones.logged(context, entry);
        self.told = self.pace.now();
        Ok(())
    }
}

/// Tells the losses that the log history does not have: that of the first step, and the mean of
/// each epoch. A run that is shorter than `logging_steps` would show no loss otherwise.
#[derive(Default)]
pub(crate) struct Milestones {
    has_told_first: bool,
    /// The step of the last log.
    logged_at: Option<u64>,
}

impl Milestones {
    /// Returns whether it told something.
    pub fn step_end(&mut self, context: &CallbackContext<'_>, pace: &Pace) -> bool {
        let (arguments, state) = (context.arguments, context.state);
        let is_first = !std::mem::replace(&mut self.has_told_first, true);
        let is_logged = (arguments.logging_first_step && state.global_step == 1)
            || (arguments.logging_strategy == IntervalStrategy::Steps
                && state.global_step.is_multiple_of(state.logging_steps.max(1)));
        let Some(loss) = pace.last_loss().filter(|_| is_first && !is_logged) else { return false };
        tracing::info!("{}  {}  loss {}", pace.step_text(), pace.epoch_text(), short_loss(loss));
        true
    }

    pub fn epoch_end(&mut self, context: &CallbackContext<'_>, pace: &Pace) {
        let is_logged = context.arguments.logging_strategy == IntervalStrategy::Epoch
            || self.logged_at == Some(context.state.global_step);
        if let Some(loss) = pace.epoch_loss().filter(|_| !is_logged) {
            tracing::info!("{}  {}  loss {} in this epoch", pace.step_text(), pace.epoch_text(), short_loss(loss));
        }
    }

    pub fn logged(&mut self, context: &CallbackContext<'_>, entry: &LogEntry) {
        if entry.contains_key("loss") {
            self.logged_at = Some(context.state.global_step);
        }
    }
}
