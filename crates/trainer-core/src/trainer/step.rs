//! One optimizer step: gradients of its micro-batches, a look at them, the update.
//!
//! What is not finite updates nothing, and what does not fit into memory is tried again in smaller
//! pieces.

use super::*;

/// A step and where it begins in the data.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepPosition {
    /// Counted from 1.
    step: u64,
    epoch: u64,
    micro_batch: usize,
}

/// What became of a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Update {
    Taken,
    Skipped(NotFinite),
}

/// What of a step is NaN or infinite.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotFinite {
    quantity: &'static str,
    value: f64,
}

impl NotFinite {
    pub(super) fn find(loss: f64, grad_norm: f64) -> Option<Self> {
        let mut figures = [("loss", loss), ("grad_norm", grad_norm)].into_iter();
        figures.find(|(_, value)| !value.is_finite()).map(|(quantity, value)| Self { quantity, value })
    }
}

/// Rows in a batch: what was `found` to fit in place of what was `asked` for, if such a search is
/// asked for.
pub(super) fn batch_size(arguments: &TrainingArguments, asked: usize, found: Option<usize>) -> usize {
    found.filter(|found| arguments.auto_find_batch_size && (1..asked).contains(found)).unwrap_or(asked)
}

/// What is said of a lack of memory, but for that.
pub(super) fn shortage(error: &OutOfMemory) -> Value {
    let text = error.to_string();
    text.strip_prefix("out of memory ").unwrap_or(&text).into()
}

/// A batch in parts of `rows` rows or less.
pub(super) fn split<S: BatchSource>(
    source: &S,
    name: &'static str,
    batch: &S::Batch,
    rows: usize,
) -> Result<Vec<S::Batch>> {
    let error = |source| Error::SplitBatch { split: name, source };
    let parts = source.split(batch, rows).map_err(error)?;
    match parts.iter().map(BatchInfo::num_rows).find(|found| *found > rows as u64) {
        Some(found) => Err(error(format!("{found} rows came where {rows} were asked for").into())),
        None => Ok(parts),
    }
}

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// The gradients of a window. When memory runs out, it begins anew with smaller micro-batches,
    /// if it may.
    pub(super) fn accumulate(&mut self, window: &[L::Batch]) -> Result<()> {
        loop {
            let Err(error) = self.forward_backward(window) else { return Ok(()) };
            let Error::OutOfMemory { source, .. } = &error else { return Err(error) };
            let message = shortage(source);
            let largest = window.iter().map(BatchInfo::num_rows).max().unwrap_or(0);
            let Some(rows) = self.half(self.train_batch_size(), largest) else { return Err(error) };
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
        // Of the whole window, so that its parts add up to the same loss however it is cut.
        let target_tokens = window.iter().map(BatchInfo::num_target_tokens).sum::<u64>().max(1);
        let rows = self.train_batch_size();
        let parts = if rows < self.arguments.per_device_train_batch_size {
            let parts = window.iter().map(|batch| split(self.train, "training", batch, rows));
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

    /// The optimizer step, unless loss or gradient are not finite.
    pub(super) fn update(&mut self) -> Result<Update> {
        let looks = self.arguments.max_bad_steps > 0;
        if looks {
            let outcome = self.learner.window_figures();
            let figures = outcome.map_err(|source| self.learner_error("reading loss and gradient norm", source))?;
            if let Some(bad) = figures.and_then(|figures| NotFinite::find(figures.loss, figures.grad_norm)) {
                let outcome = self.learner.discard_window();
                outcome.map_err(|source| self.learner_error("discarding gradients", source))?;
                return Ok(Update::Skipped(bad));
            }
        }
        let Progress { epoch, micro_batches_done: micro_batch, .. } = self.progress;
        let step = self.state.global_step + 1;
        self.session.unrecorded.push(StepPosition { step, epoch, micro_batch });
        let request = StepRequest {
            learning_rate: self.schedule.learning_rate(self.num_updates()),
            max_grad_norm: (self.arguments.max_grad_norm > 0.0).then_some(self.arguments.max_grad_norm),
        };
        let Err(source) = self.learner.optimizer_step(request) else { return Ok(Update::Taken) };
        // An update may fail of a gradient that is not finite and that nobody looked at.
        if !looks && let Err(error @ Error::BadSteps { .. }) = self.take_step_records() {
            return Err(error);
        }
        Err(match source.downcast::<OutOfMemory>() {
            Ok(source) => Error::OutOfMemoryInUpdate { step, checkpoint: self.last_checkpoint(), source: *source },
            Err(source) => self.learner_error("the optimizer step", source),
        })
    }

    /// Steps that updated something: where the schedule is. As with HF and torch's `GradScaler`, a
    /// step that is skipped counts as a step, and the schedule stays where it is.
    pub(super) fn num_updates(&self) -> u64 {
        self.state.global_step.saturating_sub(self.progress.bad_steps.total)
    }

    /// Notes a step that was skipped; ends the run if it was the last that may be.
    pub(super) fn log_skipped(&mut self, window: &[L::Batch], bad: NotFinite) -> Result<()> {
        let rows: Vec<u64> = window.iter().flat_map(|batch| self.train.row_numbers(batch)).collect();
        let NotFinite { quantity, value } = bad;
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

    /// The error of a step that was found to be not finite when its record came.
    pub(super) fn bad_record(&mut self, bad: NotFinite, position: StepPosition) -> Error {
        let StepPosition { step, epoch, micro_batch } = position;
        let batches = self.train.batches(epoch, micro_batch).into_iter().flatten();
        let window = batches.take(self.plan.window_size(micro_batch)).flatten();
        let rows = window.flat_map(|batch| self.train.row_numbers(&batch)).collect();
        self.bad_steps(bad, step, rows)
    }

    fn bad_steps(&mut self, bad: NotFinite, step: u64, rows: Vec<u64>) -> Error {
        let NotFinite { quantity, value } = bad;
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

    /// Half as many rows as there can be in a batch, when it may be made smaller. The `largest` may
    /// have less rows than batches have as a rule, and must become smaller all the same.
    pub(super) fn half(&self, rows: usize, largest: u64) -> Option<usize> {
        let rows = rows.min(usize::try_from(largest).unwrap_or(usize::MAX));
        (self.arguments.auto_find_batch_size && rows > 1).then_some(rows / 2)
    }
}
