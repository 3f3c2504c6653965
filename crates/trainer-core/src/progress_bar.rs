//! A progress bar on the terminal.

use crate::{BoxError, Callback, CallbackContext, EventResult, Requests};
use indicatif::{MultiProgress, ProgressBar as Bar, ProgressStyle};
use std::time::Duration;

const TEMPLATE: &str = "{bar:30} step {pos}/{len}  {elapsed} elapsed, {eta} left  {msg}";

/// A bar with the steps done, the time elapsed and the time left.
///
/// The caller owns the [`MultiProgress`] that the bar is drawn in, and prints all other lines
/// through its `println` or `suspend`, so that lines and bar do not mix. A `MultiProgress` draws
/// nothing when its target is no terminal.
pub struct ProgressBar {
    bars: MultiProgress,
    bar: Bar,
}

impl ProgressBar {
    /// A bar in `bars`. It appears when training begins, and disappears when training has ended.
    pub fn new(bars: MultiProgress) -> Self {
        Self { bars, bar: Bar::hidden() }
    }
}

impl Callback for ProgressBar {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        let style = ProgressStyle::with_template(TEMPLATE).map_err(BoxError::from)?;
        self.bar = self.bars.add(Bar::no_length().with_style(style));
        self.bar.set_length(context.state.max_steps);
        self.bar.set_position(context.state.global_step);
        // The steps before a resume say nothing about the time left.
        self.bar.reset_eta();
        self.bar.enable_steady_tick(Duration::from_millis(500));
        Ok(())
    }

    fn on_step_end(&mut self, context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.bar.set_position(context.state.global_step);
        self.bar.set_message(format!("epoch {:.2}", context.state.epoch));
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

    /// A terminal of 100 columns that keeps what is written.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            100
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
}
