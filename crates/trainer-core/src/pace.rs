//! How fast a run is, and how long the rest of it will take.

use crate::{CallbackContext, EvaluationProgress, IntervalStrategy, LogEntry, TrainerState, TrainingArguments};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Steps whose loss and speed are shown as a mean.
const RECENT_STEPS: usize = 20;

/// The time since some moment. Tests have one that they set.
pub(crate) type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The clock of the system.
pub(crate) fn system_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || start.elapsed())
}

/// Measures a run while it is trained. It is told of the events of a [`Callback`](crate::Callback).
#[derive(Clone)]
pub(crate) struct Pace {
    clock: Clock,
    arguments: TrainingArguments,
    /// What the events said last, without the log history.
    position: Position,
    started: Duration,
    /// Time of all evaluations that have ended, and how many they are.
    evaluations: (Duration, u32),
    evaluating: Option<Evaluating>,
    /// The step of the last evaluation.
    evaluated_at: Option<u64>,
    /// Time outside of evaluations at the end of the last step.
    step_ended: Duration,
    /// The first step of this process, in which kernels are compiled and memory is allocated.
    first_step: Option<Duration>,
    num_steps: u32,
    recent: VecDeque<StepPace>,
    recent_losses: VecDeque<f64>,
    logged_loss: Option<f64>,
    /// The sum of the losses of this epoch, and how many they are.
    epoch_losses: (f64, u32),
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    step: u64,
    max_steps: u64,
    epoch: f64,
    num_train_epochs: u64,
    eval_steps: u64,
    tokens: u64,
}

#[derive(Clone, Copy, Debug)]
struct StepPace {
    time: Duration,
    tokens: u64,
}

#[derive(Clone, Copy, Debug)]
struct Evaluating {
    since: Duration,
    progress: EvaluationProgress,
}

/// The time that the rest of a run will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TimeLeft {
    pub time: Duration,
    /// Whether there will be evaluations and none was measured yet. It will take longer then.
    pub is_lower_bound: bool,
}

impl Position {
    fn of(state: &TrainerState) -> Self {
        Self {
            step: state.global_step,
            max_steps: state.max_steps,
            epoch: state.epoch,
            num_train_epochs: state.num_train_epochs,
            eval_steps: state.eval_steps,
            tokens: state.num_input_tokens_seen,
        }
    }
}

impl Pace {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            arguments: TrainingArguments::default(),
            position: Position::default(),
            started: Duration::ZERO,
            evaluations: (Duration::ZERO, 0),
            evaluating: None,
            evaluated_at: None,
            step_ended: Duration::ZERO,
            first_step: None,
            num_steps: 0,
            recent: VecDeque::new(),
            recent_losses: VecDeque::new(),
            logged_loss: None,
            epoch_losses: (0.0, 0),
        }
    }

    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    pub fn train_begin(&mut self, context: &CallbackContext<'_>) {
        let evaluated = |entry: &&LogEntry| entry.contains_key("eval_loss");
        let last = context.state.log_history.iter().rev().find(evaluated);
        *self = Self {
            arguments: context.arguments.clone(),
            position: Position::of(context.state),
            started: self.now(),
            evaluated_at: last.and_then(|entry| entry.get("step")).and_then(Value::as_u64),
            ..Self::new(Arc::clone(&self.clock))
        };
    }

    pub fn epoch_begin(&mut self) {
        self.epoch_losses = (0.0, 0);
    }

    /// The loss of a step that is about to be taken. One that is not finite is not.
    pub fn step_loss(&mut self, loss: f64) {
        if !loss.is_finite() {
            return;
        }
        push(&mut self.recent_losses, loss);
        self.epoch_losses.0 += loss;
        self.epoch_losses.1 += 1;
    }

    pub fn step_end(&mut self, state: &TrainerState) {
        let busy = self.time_outside_evaluations();
        let time = busy.saturating_sub(self.step_ended);
        self.step_ended = busy;
        let tokens = state.num_input_tokens_seen.saturating_sub(self.position.tokens);
        self.position = Position::of(state);
        self.num_steps += 1;
        if self.num_steps == 1 {
            self.first_step = Some(time);
        } else {
            push(&mut self.recent, StepPace { time, tokens });
        }
    }

    pub fn prediction_step(&mut self, progress: EvaluationProgress) {
        let since = self.evaluating.map_or_else(|| self.started + self.evaluations.0 + self.step_ended, |it| it.since);
        self.evaluating = Some(Evaluating { since, progress });
    }

    pub fn evaluated(&mut self, state: &TrainerState) {
        if let Some(Evaluating { since, .. }) = self.evaluating.take() {
            self.evaluations.0 += self.now().saturating_sub(since);
            self.evaluations.1 += 1;
        }
        self.evaluated_at = Some(state.global_step);
    }

    pub fn logged(&mut self, entry: &LogEntry) {
        self.logged_loss = entry.get("loss").and_then(Value::as_f64).or(self.logged_loss);
    }

    /// Time of this process that was not spent on evaluations: steps, waiting for batches,
    /// snapshots of checkpoints.
    fn time_outside_evaluations(&self) -> Duration {
        let now = self.now();
        let current = self.evaluating.map_or(Duration::ZERO, |evaluating| now.saturating_sub(evaluating.since));
        now.saturating_sub(self.started).saturating_sub(self.evaluations.0 + current)
    }

    /// Time since training began.
    #[cfg(feature = "progress-bar")]
    pub fn elapsed(&self) -> Duration {
        self.now().saturating_sub(self.started)
    }

    /// The mean loss of the last steps, or the last one that was logged.
    pub fn loss(&self) -> Option<f64> {
        let recent = &self.recent_losses;
        if recent.is_empty() { self.logged_loss } else { Some(recent.iter().sum::<f64>() / recent.len() as f64) }
    }

    /// The loss of the last step.
    pub fn last_loss(&self) -> Option<f64> {
        self.recent_losses.back().copied()
    }

    /// The mean loss of the steps of this epoch in this process.
    pub fn epoch_loss(&self) -> Option<f64> {
        let (sum, count) = self.epoch_losses;
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Tokens in a second of the last steps.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let seconds: f64 = self.recent.iter().map(|step| step.time.as_secs_f64()).sum();
        let tokens: u64 = self.recent.iter().map(|step| step.tokens).sum();
        (seconds > 0.0).then(|| tokens as f64 / seconds)
    }

    /// The mean time of a step, with its part of what happens between steps. The first step counts
    /// only as long as it is the only one.
    fn step_time(&self) -> Option<Duration> {
        let first = self.first_step?;
        match self.num_steps - 1 {
            0 => Some(first),
            others => Some(self.step_ended.saturating_sub(first) / others),
        }
    }

    /// The mean time of an evaluation; in the first one, what it will be at its speed so far.
    fn evaluation_time(&self) -> Option<Duration> {
        let (total, count) = self.evaluations;
        if count > 0 {
            return Some(total / count);
        }
        let Evaluating { since, progress } = self.evaluating?;
        let EvaluationProgress { batches_done, num_batches } = progress;
        let elapsed = self.now().saturating_sub(since);
        (batches_done > 0).then(|| elapsed.mul_f64(num_batches.max(batches_done) as f64 / batches_done as f64))
    }

    /// The time that the rest of the run will take: its steps and its evaluations, with the rest of
    /// the current one. `None` before the first step.
    pub fn time_left(&self) -> Option<TimeLeft> {
        let step_time = self.step_time()?;
        let Position { step, max_steps, .. } = self.position;
        let since_step = self.time_outside_evaluations().saturating_sub(self.step_ended).min(step_time);
        let steps_left = max_steps.saturating_sub(step) as f64;
        let steps = step_time.mul_f64(steps_left);
        let steps = if self.evaluating.is_none() { steps.saturating_sub(since_step) } else { steps };
        let evaluations_left = self.evaluations_left() as f64;
        let Some(evaluation_time) = self.evaluation_time() else {
            return Some(TimeLeft { time: steps, is_lower_bound: evaluations_left > 0.0 });
        };
        let current = self.evaluating.map_or(Duration::ZERO, |evaluating| self.now().saturating_sub(evaluating.since));
        let evaluations = evaluation_time.mul_f64(evaluations_left).saturating_sub(current.min(evaluation_time));
        Some(TimeLeft { time: steps + evaluations, is_lower_bound: false })
    }

    /// Evaluations that the strategy still asks for, with the current one.
    fn evaluations_left(&self) -> u64 {
        let Position { step, max_steps, epoch, num_train_epochs, eval_steps, .. } = self.position;
        let is_done_here = self.evaluated_at == Some(step);
        let delay = self.arguments.eval_delay.max(0.0).ceil() as u64;
        match self.arguments.eval_strategy {
            IntervalStrategy::No => u64::from(self.evaluating.is_some()),
            IntervalStrategy::Steps => {
                let every = eval_steps.max(1);
                let first = if is_done_here || step == 0 { step + 1 } else { step };
                let first = first.max(delay).max(1);
                let multiples = (max_steps / every).saturating_sub((first - 1) / every);
                multiples + u64::from(!max_steps.is_multiple_of(every) && first <= max_steps)
            }
            IntervalStrategy::Epoch => {
                let is_at_an_end = step > 0 && (epoch.fract() == 0.0 || step >= max_steps);
                let ended = if is_at_an_end { epoch.ceil() as u64 } else { epoch.floor() as u64 };
                let first = if is_at_an_end && !is_done_here { ended } else { ended + 1 };
                (num_train_epochs + 1).saturating_sub(first.max(delay).max(1))
            }
        }
    }

    /// `4m10s left`, or what the run does when nothing is left to wait for but its last files.
    pub fn time_left_text(&self) -> String {
        let is_ending = self.position.step >= self.position.max_steps && self.evaluations_left() == 0;
        match self.time_left() {
            _ if is_ending && self.num_steps > 0 => "saving".to_owned(),
            None => "? left".to_owned(),
            Some(TimeLeft { time, is_lower_bound }) => {
                // The last second lasts until the next event.
                let time = short_time(time.max(Duration::from_secs(1)));
                format!("{}{time} left", if is_lower_bound { ">" } else { "" })
            }
        }
    }

    /// `step 85/540`
    pub fn step_text(&self) -> String {
        format!("step {}/{}", self.position.step, self.position.max_steps)
    }

    /// `epoch 1.57  loss 2.714  12.3k tok/s`, or how far an evaluation is in place of the epoch.
    pub fn figures_text(&self) -> String {
        let place = match self.evaluating {
            Some(Evaluating { progress, .. }) => {
                format!("evaluating {}/{}", progress.batches_done, progress.num_batches)
            }
            None => self.epoch_text(),
        };
        let loss = self.loss().map(|loss| format!("loss {}", short_loss(loss)));
        let speed = self.tokens_per_second().map(|speed| format!("{} tok/s", short_count(speed)));
        [Some(place), loss, speed].into_iter().flatten().collect::<Vec<_>>().join("  ")
    }

    /// `epoch 1.57`
    pub fn epoch_text(&self) -> String {
        format!("epoch {:.2}", self.position.epoch)
    }
}

fn push<T>(recent: &mut VecDeque<T>, value: T) {
    recent.push_back(value);
    if recent.len() > RECENT_STEPS {
        recent.pop_front();
    }
}

/// Four significant digits, in at most 9 characters.
pub(crate) fn short_loss(loss: f64) -> String {
    match loss.abs() {
        size if size >= 1e4 || (size > 0.0 && size < 1e-3) => format!("{loss:.2e}"),
        size if size >= 100.0 => format!("{loss:.1}"),
        size if size >= 10.0 => format!("{loss:.2}"),
        size if size >= 1.0 => format!("{loss:.3}"),
        _ => format!("{loss:.4}"),
    }
}

/// `950`, `12.3k`, `1.2M`
fn short_count(count: f64) -> String {
    match count {
        count if count >= 999_950.0 => format!("{:.1}M", count / 1e6),
        count if count >= 999.5 => format!("{:.1}k", count / 1e3),
        count => format!("{count:.0}"),
    }
}

/// Two units: `42s`, `4m10s`, `1h02m`, `2d03h`.
pub(crate) fn short_time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}
