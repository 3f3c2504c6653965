//! What signals do to a run.
//!
//! SIGTERM, SIGHUP and SIGINT end a run after the current step, with a checkpoint. SIGUSR1 asks for
//! a checkpoint, and the run goes on. A second SIGINT ends the run at once. So does any of them
//! before training begins, or when nothing is to be saved.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tracing::info;
use trainer_core::{Callback, CallbackContext, EventResult, LogEntry, Requests};

/// What a signal does to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    /// The run is saved, then it ends.
    Save,
    /// The run ends at once.
    Leave,
}

/// The signals received so far, and the callback that acts on them.
#[derive(Debug, Clone)]
pub struct Signals {
    on_signal: OnSignal,
    /// Number of the last signal that ends the run, 0 for none.
    received: Arc<AtomicUsize>,
    save: Arc<AtomicBool>,
    /// Whether a signal ends the process at once, because there is nothing to save.
    leaves: Arc<AtomicBool>,
    /// Steps of the checkpoints that SIGUSR1 asked for and that are being written.
    asked: Vec<u64>,
}

impl Signals {
    /// Starts listening. Until training begins, a signal ends the process at once with exit code
    /// 128 plus its number. Without this, the first process of a container would ignore it. SIGUSR1
    /// is kept for when training has begun.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(on_signal: OnSignal) -> std::io::Result<Self> {
        let signals = Self {
            on_signal,
            received: Arc::default(),
            save: Arc::default(),
            leaves: Arc::new(AtomicBool::new(true)),
            asked: Vec::new(),
        };
        signals.register()?;
        Ok(signals)
    }

    fn register(&self) -> std::io::Result<()> {
        // Actions for a signal run in the order of their registration.
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.leaves))?;
            if signal == SIGINT {
                // The order matters: the first SIGINT passes the check and then sets the flag, so
                // that the second one ends the process.
                flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&interrupted))?;
                flag::register(signal, Arc::clone(&interrupted))?;
            }
            flag::register_usize(signal, Arc::clone(&self.received), usize::try_from(signal).unwrap_or(0))?;
        }
        match self.on_signal {
            OnSignal::Save => flag::register(SIGUSR1, Arc::clone(&self.save))?,
            OnSignal::Leave => flag::register_conditional_shutdown(SIGUSR1, 128 + SIGUSR1, Arc::clone(&self.leaves))?,
        };
        Ok(())
    }

    /// The signal received that ends the run, if any.
    pub fn received(&self) -> Option<u8> {
        u8::try_from(self.received.load(Ordering::SeqCst)).ok().filter(|signal| *signal > 0)
    }

    /// Asks the loop for a checkpoint, and to end the run if a signal says so.
    fn pass_on(&mut self, global_step: u64, requests: &mut Requests) {
        if self.received().is_some() {
            requests.request_save();
            requests.request_stop();
        }
        if self.save.swap(false, Ordering::SeqCst) {
            requests.request_save();
            self.asked.push(global_step);
        }
    }
}

impl Callback for Signals {
    fn on_train_begin(&mut self, _context: &CallbackContext<'_>, _requests: &mut Requests) -> EventResult {
        self.leaves.store(self.on_signal == OnSignal::Leave, Ordering::SeqCst);
        Ok(())
    }

    fn on_step_end(&mut self, context: &CallbackContext<'_>, requests: &mut Requests) -> EventResult {
        self.pass_on(context.state.global_step, requests);
        Ok(())
    }

    // An evaluation can take longer than a step.
    fn on_evaluate(
        &mut self,
        context: &CallbackContext<'_>,
        _metrics: &LogEntry,
        requests: &mut Requests,
    ) -> EventResult {
        self.pass_on(context.state.global_step, requests);
        Ok(())
    }

    fn on_save(&mut self, _context: &CallbackContext<'_>, checkpoint: &Path, _requests: &mut Requests) -> EventResult {
        let is_this = |step: &u64| checkpoint.ends_with(format!("checkpoint-{step}"));
        if let Some(index) = self.asked.iter().position(is_this) {
            // Earlier ones have failed. The log says so.
            self.asked.drain(..=index);
            info!("SIGUSR1: saved {}", checkpoint.display());
        }
        Ok(())
    }
}
