//! SIGTERM, SIGHUP and SIGINT end a run after the current step, with a checkpoint. A second SIGINT ends it at once.

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use trainer_core::{Callback, Context, EventResult, Requests};

/// What has been received.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Number of the last signal, 0 for none.
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self> {
        let signals = Self::default();
        let interrupted = Arc::new(AtomicBool::new(false));
        // In this order: the first SIGINT sets the flag after it was looked at, the second finds it set.
        signal_hook::flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(SIGINT, interrupted))
            .context("cannot listen for signals")?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let value = usize::try_from(signal).unwrap_or(0);
            signal_hook::flag::register_usize(signal, Arc::clone(&signals.received), value)
                .context("cannot listen for signals")?;
        }
        Ok(signals)
    }

    /// The signal received, if any.
    pub fn received(&self) -> Option<u8> {
        u8::try_from(self.received.load(Ordering::SeqCst)).ok().filter(|signal| *signal > 0)
    }

    /// Asks the loop for a checkpoint and the end.
    fn pass_on(&self, requests: &mut Requests) {
        if self.received().is_some() {
            requests.request_save();
            requests.request_stop();
        }
    }
}

impl Callback for Signals {
    fn on_step_end(&mut self, _context: &Context<'_>, requests: &mut Requests) -> EventResult {
        self.pass_on(requests);
        Ok(())
    }

    // An evaluation can take longer than a step.
    fn on_evaluate(
        &mut self,
        _context: &Context<'_>,
        _metrics: &trainer_core::LogEntry,
        requests: &mut Requests,
    ) -> EventResult {
        self.pass_on(requests);
        Ok(())
    }
}
