//! Signals. SIGTERM, SIGHUP and SIGINT end a run after the current step, with a checkpoint; SIGUSR1
//! asks for a checkpoint and the run goes on. A second SIGINT ends it at once, and so does any of
//! them before there is something to save, or when it is not to be saved.

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use trainer_core::{Callback, Context, EventResult, LogEntry, Requests};

/// What a signal does to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    /// It is saved first.
    Save,
    /// It ends at once.
    Leave,
}

/// What has been received.
#[derive(Debug, Clone)]
pub struct Signals {
    on_signal: OnSignal,
    /// Number of the last signal that ends the run, 0 for none.
    received: Arc<AtomicUsize>,
    save: Arc<AtomicBool>,
    /// Nothing is to be saved: a signal ends the process where it stands.
    leaves: Arc<AtomicBool>,
    /// Steps whose checkpoints were asked for by SIGUSR1 and are under way.
    asked: Vec<u64>,
}

impl Signals {
    /// Starts listening. Until training begins a signal ends the process at once, with exit code
    /// 128 and its number: as the first process of a container it would not hear it otherwise. But
    /// for SIGUSR1, which then is for later.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen(on_signal: OnSignal) -> Result<Self> {
        let signals = Self {
            on_signal,
            received: Arc::default(),
            save: Arc::default(),
            leaves: Arc::new(AtomicBool::new(true)),
            asked: Vec::new(),
        };
        signals.register().context("cannot listen for signals")?;
        Ok(signals)
    }

    fn register(&self) -> std::io::Result<()> {
        // Actions for a signal run in the order of their registration.
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&self.leaves))?;
            if signal == SIGINT {
                // The first sets the flag after it was looked at, the second finds it set.
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

    /// Asks the loop for a checkpoint, and for the end if that is meant.
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
    fn on_train_begin(&mut self, _context: &Context<'_>, _requests: &mut Requests) -> EventResult {
        self.leaves.store(self.on_signal == OnSignal::Leave, Ordering::SeqCst);
        Ok(())
    }

    fn on_step_end(&mut self, context: &Context<'_>, requests: &mut Requests) -> EventResult {
        self.pass_on(context.state.global_step, requests);
        Ok(())
    }

    // An evaluation can take longer than a step.
    fn on_evaluate(&mut self, context: &Context<'_>, _metrics: &LogEntry, requests: &mut Requests) -> EventResult {
        self.pass_on(context.state.global_step, requests);
        Ok(())
    }

    fn on_save(&mut self, _context: &Context<'_>, checkpoint: &Path, requests: &mut Requests) -> EventResult {
        let is_this = |step: &u64| checkpoint.ends_with(format!("checkpoint-{step}"));
        if let Some(index) = self.asked.iter().position(is_this) {
            // Those before it have failed, which the log tells.
            self.asked.drain(..=index);
            requests.notify(format!("SIGUSR1: saved {}", checkpoint.display()));
        }
        Ok(())
    }
}
