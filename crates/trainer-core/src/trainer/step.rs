//! One optimizer step: the gradients of its micro-batches, the check that they are finite, and the
//! update.
//!
//! A step whose loss or gradient is not finite updates nothing. A window that does not fit into
//! memory is run again with smaller micro-batches.

use super::*;

/// A step, and where its window begins in the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepPosition {
    /// Counted from 1.
    step: u64,
    epoch: u64,
    micro_batch: usize,
}

/// Whether a step updated the weights.
#[derive(Clone, Copy, Debug)]
pub(super) enum StepOutcome {
    Updated,
    Skipped(NonFinite),
}

/// The figure of a step that is NaN or infinite.
#[derive(Clone, Copy, Debug)]
pub(super) struct NonFinite {
    quantity: &'static str,
    value: f64,
}

impl NonFinite {
    pub(super) fn find(loss: f64, grad_norm: f64) -> Option<Self> {
        let mut figures = [("loss", loss), ("grad_norm", grad_norm)].into_iter();
        figures.find(|(_, value)| !value.is_finite()).map(|(quantity, value)| Self { quantity, value })
    }
}

/// The number of rows in a batch: the smaller number `found` to fit, if the arguments allow it, and
/// otherwise the number `asked` for.
pub(super) fn batch_size(arguments: &TrainingArguments, asked: usize, found: Option<usize>) -> usize {
    found.filter(|found| arguments.auto_find_batch_size && (1..asked).contains(found)).unwrap_or(asked)
}

/// The message of the error without its first words, which the key of the log entry says.
pub(super) fn out_of_memory_text(error: &OutOfMemory) -> Value {
    let text = error.to_string();
    text.strip_prefix("out of memory ").unwrap_or(&text).into()
}

/// Splits a batch into batches of at most `rows` rows. `name` names the split of the dataset.
pub(super) fn split_batch<S: BatchSource>(
    source: &S,
    name: &'static str,
    batch: &S::Batch,
    rows: usize,
) -> Result<Vec<S::Batch>> {
    let error = |source| Error::SplitBatch { split: name, source };
    let parts = source.split_batch(batch, rows).map_err(error)?;
    match parts.iter().map(BatchInfo::num_rows).find(|found| *found > rows as u64) {
        Some(found) => Err(error(format!("{found} rows came where {rows} were asked for").into())),
        None => Ok(parts),
    }
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Computes the gradients of a window. When memory runs out, the window is run again with
    /// smaller micro-batches, if the arguments allow it.
    pub(super) fn accumulate(&mut self, window: &[L::Batch]) -> Result<()> {
        loop {
            let Err(error) = self.forward_backward(window) else { return Ok(()) };
            let Error::OutOfMemory { source, .. } = &error else { return Err(error) };
            let message = out_of_memory_text(source);
            let largest = window.iter().map(BatchInfo::num_rows).max().unwrap_or(0);
            let Some(rows) = self.halved_batch_size(self.train_batch_size(), largest) else { return Err(error) };
            let outcome = self.learner.discard_window();
            outcome.map_err(|source| self.learner_error("discarding gradients", source))?;
            self.state.train_batch_size = Some(rows);
            let in_a_batch = self.arguments.per_device_train_batch_size.div_ceil(rows);
            let accumulation = self.arguments.gradient_accumulation_steps * in_a_batch;
            self.log([
                ("out_of_memory", message),
                ("per_device_train_batch_size", rows.into()),
                ("gradient_accumulation_steps", accumulation.into()),
            ])?;
        }
    }

    fn forward_backward(&mut self, window: &[L::Batch]) -> Result<()> {
        // The count of the whole window: the sum over its parts is then the same for any division.
        let target_tokens = window.iter().map(BatchInfo::num_target_tokens).sum::<u64>().max(1);
        let rows = self.train_batch_size();
        let parts = if rows < self.arguments.per_device_train_batch_size {
            let parts = window.iter().map(|batch| split_batch(self.train, "training", batch, rows));
            Some(parts.collect::<Result<Vec<_>>>()?)
        } else {
            None
        };
        let micro_batches: Vec<&L::Batch> = match &parts {
            Some(parts) => parts.iter().flatten().collect(),
            None => window.iter().collect(),
        };
        for (index, batch) in micro_batches.iter().enumerate() {
            let outcome = self.learner.forward_backward(batch, target_tokens);
            outcome.map_err(|source| self.learner_error("forward and backward", source))?;
            if index + 1 < micro_batches.len() {
                self.emit(Callbacks::on_substep_end)?;
            }
        }
        Ok(())
    }

    /// Takes the optimizer step, unless the loss or the gradient norm is not finite.
    pub(super) fn update(&mut self) -> Result<StepOutcome> {
        let checks_first = self.arguments.max_bad_steps > 0;
        if checks_first {
            let outcome = self.learner.window_figures();
            let figures = outcome.map_err(|source| self.learner_error("reading loss and gradient norm", source))?;
            if let Some(figures) = figures {
                self.emit(|callbacks, context, requests| callbacks.on_window_figures(context, figures, requests))?;
            }
            if let Some(bad) = figures.and_then(|figures| NonFinite::find(figures.loss, figures.grad_norm)) {
                let outcome = self.learner.discard_window();
                outcome.map_err(|source| self.learner_error("discarding gradients", source))?;
                return Ok(StepOutcome::Skipped(bad));
            }
        }
        let Progress { epoch, micro_batches_done: micro_batch, .. } = self.progress;
        let step = self.state.global_step + 1;
        self.process.unrecorded.push(StepPosition { step, epoch, micro_batch });
        let request = StepRequest {
            learning_rate: self.schedule.learning_rate(self.num_updates()),
            max_grad_norm: (self.arguments.max_grad_norm > 0.0).then_some(self.arguments.max_grad_norm),
        };
        let Err(source) = self.learner.optimizer_step(request) else { return Ok(StepOutcome::Updated) };
        // The cause may be a gradient that is not finite and was not checked. That is the better
        // message.
        if !checks_first && let Err(error @ Error::BadSteps { .. }) = self.take_step_records() {
            return Err(error);
        }
        Err(match source.downcast::<OutOfMemory>() {
            Ok(source) => Error::OutOfMemoryInUpdate { step, checkpoint: self.last_checkpoint(), source: *source },
            Err(source) => self.learner_error("the optimizer step", source),
        })
    }

    /// The steps that were not skipped. They are the position in the schedule: as with HF and
    /// torch's `GradScaler`, a skipped step counts as a step, and the schedule does not advance.
    pub(super) fn num_updates(&self) -> u64 {
        self.state.global_step.saturating_sub(self.progress.bad_steps.total)
    }

    /// Logs a skipped step. It is an error if no more steps may be skipped.
    pub(super) fn log_skipped(&mut self, window: &[L::Batch], bad: NonFinite) -> Result<()> {
        let rows: Vec<u64> = window.iter().flat_map(|batch| self.train.row_numbers(batch)).collect();
        let NonFinite { quantity, value } = bad;
        self.log([
            ("skipped", format!("{quantity} is {value}").into()),
            ("skipped_rows", rows.clone().into()),
            ("skipped_steps", self.progress.bad_steps.total.into()),
        ])?;
        if self.progress.bad_steps.in_a_row < self.arguments.max_bad_steps {
            return Ok(());
        }
        Err(self.bad_steps(bad, self.state.global_step, rows))
    }

    /// The error of a bad step that was found in its record.
    pub(super) fn bad_record(&mut self, bad: NonFinite, position: StepPosition) -> Error {
        let StepPosition { step, epoch, micro_batch } = position;
        let batches = self.train.batches(epoch, micro_batch).into_iter().flatten();
        let window = batches.take(self.plan.window_size(micro_batch)).flatten();
        let rows = window.flat_map(|batch| self.train.row_numbers(&batch)).collect();
        self.bad_steps(bad, step, rows)
    }

    fn bad_steps(&mut self, bad: NonFinite, step: u64, rows: Vec<u64>) -> Error {
        let NonFinite { quantity, value } = bad;
        let (in_a_row, checkpoint) = (self.progress.bad_steps.in_a_row.max(1), self.last_checkpoint());
        Error::BadSteps { quantity, value, step, in_a_row, rows, checkpoint }
    }

    /// Rows in a training micro-batch.
    pub(super) fn train_batch_size(&self) -> usize {
        self.state.train_batch_size.unwrap_or(self.arguments.per_device_train_batch_size)
    }

    /// Rows in an evaluation batch.
    pub(super) fn eval_batch_size(&self) -> usize {
        batch_size(&self.arguments, self.arguments.per_device_eval_batch_size, self.progress.eval_batch_size)
    }

    /// Half of `rows`, or half of `largest` if the largest batch has fewer rows. `None` if the
    /// arguments do not allow smaller batches, or if the batch has one row.
    pub(super) fn halved_batch_size(&self, rows: usize, largest: u64) -> Option<usize> {
        let rows = rows.min(usize::try_from(largest).unwrap_or(usize::MAX));
        (self.arguments.auto_find_batch_size && rows > 1).then_some(rows / 2)
    }
}
