//! A progress bar on the terminal.

use crate::pace::{Clock, Pace, short_time, system_clock};
use crate::progress_lines::Milestones;
use crate::{BoxError, Callback, CallbackContext, EvaluationProgress, EventResult, LogEntry, Requests, WindowFigures};
use indicatif::{MultiProgress, ProgressBar as Bar, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const TEMPLATE: &str = "{wide_bar} {run}";
/// Characters that have one column in every locale. The usual blocks have two in Chinese, Japanese
/// and Korean ones, and the line would not fit.
const BAR_CHARACTERS: &str = "=> ";

/// A bar with the steps done, the time elapsed and left, the loss, and the speed. The line fits
/// into 80 columns.
///
/// The time left is that of all steps and evaluations that are left. A `>` is before it when an
/// evaluation is to come and none was measured yet. During an evaluation the bar says how far that
/// is, and after the last step `saving` until the run has ended. Loss and speed are means over the
/// last 20 steps.
///
/// It also tells the loss of the first step and the mean loss of each epoch as `tracing` events,
/// unless the loop logs it there.
///
/// The caller owns the [`MultiProgress`] that the bar is drawn in, and prints all other lines
/// through its `println` or `suspend`, so that lines and bar do not mix. A `MultiProgress` draws
/// nothing when its target is no terminal; [`ProgressLines`](crate::ProgressLines) is for that.
pub struct ProgressBar {
    bars: MultiProgress,
    bar: Bar,
    pace: Arc<Mutex<Pace>>,
    milestones: Milestones,
}

impl ProgressBar {
    /// A bar in `bars`. It appears when training begins, and disappears when training has ended.
    pub fn new(bars: MultiProgress) -> Self {
        Self::on(bars, system_clock())
    }

    fn on(bars: MultiProgress, clock: Clock) -> Self {
        let pace = Arc::new(Mutex::new(Pace::new(clock)));
        Self { bars, bar: Bar::hidden(), pace, milestones: Milestones::default() }
    }
}

/// No event panics while it holds the lock.
fn lock(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `step 85/540  1m20s, 4m10s left  epoch 1.57  loss 2.714  12.3k tok/s`
fn text(pace: &Pace) -> String {
    let (elapsed, left) = (short_time(pace.elapsed()), pace.time_left_text());
    format!("{}  {elapsed}, {left}  {}", pace.step_text(), pace.figures_text())
}

impl Callback for ProgressBar {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        lock(&self.pace).train_begin(context);
        let pace = Arc::clone(&self.pace);
        let write_run = move |_: &ProgressState, to: &mut dyn Write| {
            let _ = to.write_str(&text(&lock(&pace)));
        };
        let style = ProgressStyle::with_template(TEMPLATE).map_err(BoxError::from)?;
        let style = style.progress_chars(BAR_CHARACTERS).with_key("run", write_run);
        self.bar = self.bars.add(Bar::no_length().with_style(style));
        self.bar.set_length(context.state.max_steps);
        self.bar.set_position(context.state.global_step);
        self.bar.enable_steady_tick(Duration::from_millis(500));
        Ok(())
    }

    fn on_epoch_begin(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        lock(&self.pace).epoch_begin();
        Ok(())
    }

    fn on_window_figures(
        &mut self,
        _context: &CallbackContext<'_>,
        figures: WindowFigures,
        _requests: &mut Requests,
    ) -> EventResult {
        lock(&self.pace).step_loss(figures.loss);
        Ok(())
    }

    fn on_step_end(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        let pace = {
            let mut pace = lock(&self.pace);
            pace.step_end(context.state);
            pace.clone()
        };
        self.bar.set_position(context.state.global_step);
        // Drawing the event's line draws the bar, which needs the lock.
        self.milestones.step_end(context, &pace);
        Ok(())
    }

    fn on_epoch_end(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        let pace = lock(&self.pace).clone();
        self.milestones.epoch_end(context, &pace);
        Ok(())
    }

    fn on_prediction_step(
        &mut self,
        _context: &CallbackContext<'_>,
        progress: EvaluationProgress,
        _requests: &mut Requests,
    ) -> EventResult {
        lock(&self.pace).prediction_step(progress);
        Ok(())
    }

    fn on_evaluate(
        &mut self,
        context: &CallbackContext<'_>,
        _metrics: &LogEntry,
        _requests: &mut Requests,
    ) -> EventResult {
        lock(&self.pace).evaluated(context.state);
        Ok(())
    }

    fn on_log(&mut self, context: &CallbackContext<'_>, entry: &LogEntry, _requests: &mut Requests) -> EventResult {
        lock(&self.pace).logged(entry);
        self.milestones.logged(context, entry);
        Ok(())
    }

    fn on_train_end(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.bar.finish_and_clear();
        self.bars.remove(&self.bar);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TrainerState, TrainingArguments};
    use indicatif::{ProgressDrawTarget, TermLike};
    use std::io;
    use std::sync::{Arc, Mutex};

    /// A terminal of 80 columns that keeps what is written.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn shows_the_steps_and_the_epoch_and_ends_with_the_run() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        let mut callback = ProgressBar::new(MultiProgress::with_draw_target(target));
        let arguments = TrainingArguments::default();
        let mut state = TrainerState { global_step: 2, max_steps: 540, ..Default::default() };
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
        callback.on_train_begin(&context, &mut Requests::default()).unwrap();
        (state.global_step, state.epoch) = (3, 1.574);
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
        callback.on_step_end(&context, &mut Requests::default()).unwrap();
        callback.bar.force_draw();
        let shown = terminal.0.lock().unwrap().clone();
        assert!(shown.contains("step 3/540") && shown.contains("left  epoch 1.57"), "{shown}");

        callback.on_train_end(&context, &mut Requests::default()).unwrap();
        assert!(callback.bar.is_finished());
    }

    /// What a bar shows at the end of an event, in a run of 123,456 steps.
    fn shown(events: impl FnOnce(&mut ProgressBar, &mut TrainerState, &mut dyn FnMut(f64))) -> String {
        let time = Arc::new(Mutex::new(0.0));
        let clock = {
            let time = Arc::clone(&time);
            Arc::new(move || Duration::from_secs_f64(*time.lock().unwrap()))
        };
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        let mut callback = ProgressBar::on(MultiProgress::with_draw_target(target), clock);
        let arguments = TrainingArguments::documented_recipe();
        let mut state = TrainerState { max_steps: 123_456, num_train_epochs: 10, ..Default::default() };
        let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
        callback.on_train_begin(&context, &mut Requests::default()).unwrap();
        callback.bar.disable_steady_tick();
        events(&mut callback, &mut state, &mut |seconds| *time.lock().unwrap() += seconds);
        terminal.0.lock().unwrap().clear();
        callback.bar.force_draw();
        terminal.0.lock().unwrap().trim_end().to_owned()
    }

    fn step(callback: &mut ProgressBar, state: &mut TrainerState) {
        let arguments = TrainingArguments::documented_recipe();
        state.global_step += 1;
        state.num_input_tokens_seen += 8192;
        let context = CallbackContext { arguments: &arguments, state, resumed_from: None };
        let figures = WindowFigures { loss: 2.71449, grad_norm: 1.0 };
        callback.on_window_figures(&context, figures, &mut Requests::default()).unwrap();
        callback.on_step_end(&context, &mut Requests::default()).unwrap();
    }

    #[test]
    fn the_line_fits_into_80_columns_of_every_locale() {
        let line = shown(|callback, state, pass| {
            state.global_step = 123_000;
            state.epoch = 9.9;
            for seconds in [90_000.0, 3.5, 3.5] {
                pass(seconds);
                step(callback, state);
            }
        });
        let expected = "step 123003/123456  1d01h, >26m25s left  epoch 9.90  loss 2.714  2.3k tok/s";
        assert!(line.ends_with(expected), "{line}");
        // ASCII has one column a character everywhere.
        assert!(line.is_ascii() && line.len() <= 80, "{} in {line}", line.len());
    }

    #[test]
    fn an_evaluation_is_shown_and_counts_as_time() {
        let evaluation = |batches_done| {
            shown(|callback, state, pass| {
                for _ in 0..3 {
                    pass(1.0);
                    step(callback, state);
                }
                (state.global_step, state.max_steps, state.epoch) = (123_455, 123_456, 10.0);
                step(callback, state);
                let arguments = TrainingArguments::documented_recipe();
                let context = CallbackContext { arguments: &arguments, state, resumed_from: None };
                for batches_done in 1..=batches_done {
                    pass(2.0);
                    let progress = EvaluationProgress { batches_done, num_batches: 40 };
                    callback.on_prediction_step(&context, progress, &mut Requests::default()).unwrap();
                }
                if batches_done == 40 {
                    callback.on_evaluate(&context, &LogEntry::new(), &mut Requests::default()).unwrap();
                }
            })
        };
        let line = evaluation(10);
        assert!(line.contains(", 1m00s left  evaluating 10/40  loss 2.714"), "{line}");
        let line = evaluation(40);
        assert!(line.contains(", saving  epoch 10.00  loss 2.714"), "{line}");
    }
}
