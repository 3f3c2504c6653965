//! Logs and evaluations, and the end of a run.

use super::*;
use crate::InputTokens;
use crate::progress::SinceLog;
use serde_json::Value;

/// The shortest time between two events about the progress of an evaluation.
const TELL_EVERY: Duration = Duration::from_millis(500);

impl<'a, L: Learner, S: BatchSource<Batch = L::Batch>> Trainer<'a, L, S> {
    /// Serves the requests, in HF's order.
    pub(super) fn log_evaluate_save(&mut self) -> Result<()> {
        self.poll_save()?;
        if self.requests.is_any_due() {
            self.take_step_records()?;
        }
        if self.requests.take_log() && self.progress.since_log.num_steps > 0 {
            self.log_steps()?;
        }
        if self.requests.take_evaluate() {
            self.evaluate()?;
        }
        if self.requests.take_save() {
            self.save()?;
        }
        Ok(())
    }

    /// Fetches the figures of the steps since the last call. A bad step that was not skipped ends
    /// the run here, before it is logged or saved.
    pub(super) fn take_step_records(&mut self) -> Result<()> {
        let started = Instant::now();
        let outcome = self.learner.take_step_records();
        let records = outcome.map_err(|source| self.learner_error("reading step records", source))?;
        self.process.clock.end_wait(started.elapsed());

        let taken = std::mem::take(&mut self.process.unrecorded);
        if records.len() != taken.len() {
            return Err(Error::StepRecords {
                step: self.state.global_step,
                found: records.len(),
                expected: taken.len(),
            });
        }
        for (record, position) in records.iter().zip(taken) {
            if let Some(bad) = NonFinite::find(record.loss, record.grad_norm) {
                return Err(self.bad_record(bad, position));
            }
            self.progress.add(record);
        }
        Ok(())
    }

    fn log_steps(&mut self) -> Result<()> {
        let SinceLog { num_steps, loss_sum, last_grad_norm, correct_tokens, target_tokens } =
            std::mem::take(&mut self.progress.since_log);
        let last_update = self.num_updates().saturating_sub(1);
        self.log([
            ("loss", number(loss_sum / num_steps as f64)),
            ("grad_norm", number(last_grad_norm)),
            ("learning_rate", number(self.schedule.learning_rate(last_update))),
            ("mean_token_accuracy", number(ratio(correct_tokens, target_tokens))),
            ("num_tokens", self.state.num_input_tokens_seen.into()),
        ])?;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<()> {
        let step = self.state.global_step;
        let _evaluate_span = tracing::info_span!("evaluate", step).entered();
        let eval = self.eval.ok_or(Error::NoEvaluationSplit { step })?;
        let started = Instant::now();
        let mut told = started;
        let (mut num_rows, mut num_batches) = (0, 0);
        let data_error = |micro_batch, source| Error::Data { split: "evaluation", epoch: 0, micro_batch, source };
        for batch in eval.batches(0, 0).map_err(|source| data_error(0, source))? {
            let batch = batch.map_err(|source| data_error(num_batches, source))?;
            self.evaluate_batch(eval, &batch)?;
            num_rows += batch.num_rows();
            num_batches += 1;
            let progress =
                EvaluationProgress { batches_done: num_batches as u64, num_batches: eval.num_batches() as u64 };
            self.emit(|callbacks, context, requests| callbacks.on_prediction_step(context, progress, requests))?;
            let is_last = progress.batches_done == progress.num_batches;
            if is_last || told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let EvaluationProgress { batches_done: done, num_batches: total } = progress;
                tracing::info!(target: "progress", stage = "evaluating", done, total, unit = "batches");
            }
        }
        let outcome = self.learner.take_eval_sums();
        let sums = outcome.map_err(|source| self.evaluation_error(source))?;
        if sums.target_tokens == 0 {
            return Err(Error::NoEvaluationTargets);
        }

        let runtime = started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let eval_loss = sums.loss_sum / sums.target_tokens as f64;
        let entry = self.log([
            ("eval_loss", number(eval_loss)),
            ("eval_mean_token_accuracy", number(ratio(sums.correct_tokens, sums.target_tokens))),
            ("eval_runtime", number(runtime)),
            ("eval_samples_per_second", number(num_rows as f64 / runtime)),
            ("eval_steps_per_second", number(num_batches as f64 / runtime)),
            ("perplexity", number(eval_loss.exp())),
        ])?;
        if !eval_loss.is_finite() {
            return Err(Error::NonFiniteEvaluation { value: eval_loss, step, checkpoint: self.last_checkpoint() });
        }
        if self.state.best_model_checkpoint.is_none() {
            // The checkpoint of the best evaluation is under way. If it fails, this evaluation is
            // compared with the best one before.
            self.wait_for_save()?;
        }
        self.adapt_schedule();
        self.emit(|callbacks, context, requests| callbacks.on_evaluate(context, &entry, requests))?;
        self.update_best(&entry)
    }

    /// Gives the schedule the evaluations so far. As with HF, the one before the first step does
    /// not count.
    pub(super) fn adapt_schedule(&mut self) {
        let key = self.arguments.best_metric_key();
        let entries = self.state.log_history.iter();
        let evaluations = entries.filter(|entry| entry.contains_key("eval_loss") && entry["step"] != 0);
        self.schedule.adapt_to(evaluations.filter_map(|entry| entry.get(&key).and_then(Value::as_f64)));
    }

    /// Adds a batch to the evaluation. A batch that does not fit into memory is added in parts, if
    /// the arguments allow it.
    fn evaluate_batch(&mut self, eval: &S, batch: &L::Batch) -> Result<()> {
        let rows = self.eval_batch_size();
        if batch.num_rows() > rows as u64 {
            let parts = step::split_batch(eval, "evaluation", batch, rows)?;
            return parts.iter().try_for_each(|part| self.evaluate_batch(eval, part));
        }
        let Err(source) = self.learner.evaluate(batch) else { return Ok(()) };
        let error = self.evaluation_error(source);
        let Error::OutOfMemory { source, .. } = &error else { return Err(error) };
        let message = step::out_of_memory_text(source);
        let Some(rows) = self.halved_batch_size(rows, batch.num_rows()) else { return Err(error) };
        self.progress.eval_batch_size = Some(rows);
        self.log([("out_of_memory", message), ("per_device_eval_batch_size", rows.into())])?;
        self.evaluate_batch(eval, batch)
    }

    fn evaluation_error(&self, source: BoxError) -> Error {
        let (action, step) = ("evaluation", self.state.global_step);
        match source.downcast::<OutOfMemory>() {
            Ok(source) => Error::OutOfMemory { action, step, rows: self.eval_batch_size(), source: *source },
            Err(source) => Error::Learner { action, step, source },
        }
    }

    /// Records the evaluation of `entry` as the best one, if a callback has marked it, or if it is
    /// better and the arguments ask for the best checkpoint as HF's Trainer does.
    fn update_best(&mut self, entry: &LogEntry) -> Result<()> {
        let metric = entry.get(&self.arguments.best_metric_key()).and_then(Value::as_f64);
        let is_improvement = |metric: &f64| self.arguments.is_better(*metric, self.state.best_metric);
        let own = metric.filter(|metric| self.arguments.tracks_best() && is_improvement(metric));
        if let Some(metric) = self.requests.take_best_metric().or(own) {
            self.set_best(metric)?;
            if self.arguments.save_strategy == SaveStrategy::Best {
                self.requests.request_save();
            }
        }
        Ok(())
    }

    pub(super) fn check_finite(&mut self) -> Result<()> {
        let outcome = self.learner.check_finite();
        outcome.map_err(|source| Error::NonFiniteModel {
            step: self.state.global_step,
            checkpoint: self.last_checkpoint(),
            source,
        })
    }

    /// Adds an entry to the log history, and tells the subscriber and the callbacks.
    pub(super) fn log<const N: usize>(&mut self, figures: [(&str, Value); N]) -> Result<LogEntry> {
        let mut entry: LogEntry = figures.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        entry.insert("epoch".to_owned(), self.state.epoch.into());
        if self.arguments.include_num_input_tokens_seen != InputTokens::No {
            entry.insert("num_input_tokens_seen".to_owned(), self.state.num_input_tokens_seen.into());
        }
        entry.insert("step".to_owned(), self.state.global_step.into());
        self.state.log_history.push(entry.clone());
        log_line::emit(&self.state, &entry);
        self.emit(|callbacks, context, requests| callbacks.on_log(context, &entry, requests))?;
        Ok(entry)
    }

    /// Logs the summary of the run, and loads the best checkpoint if the arguments ask for it.
    /// Returns the content of `train_results.json`.
    pub(super) fn finish(&mut self) -> Result<Map<String, Value>> {
        self.take_step_records()?;
        self.check_finite()?;
        let mut metrics = if self.process.num_steps > 0 { self.log_summary()? } else { self.summary_without_times() };
        let report = self.learner.report();
        metrics.extend(report.map_err(|source| self.learner_error("the learner's report", source))?);

        let best = self.state.best_model_checkpoint.clone().filter(|_| self.arguments.load_best_model_at_end);
        if let Some(best) = best {
            let outcome = self.learner.load_checkpoint(&best);
            outcome.map_err(|source| self.learner_error("loading the best checkpoint", source))?;
        }
        Ok(metrics)
    }

    fn log_summary(&mut self) -> Result<Map<String, Value>> {
        let runtime = self.process.started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let mut metrics = self.log([
            ("train_runtime", number(runtime)),
            ("train_samples_per_second", number(self.process.num_rows as f64 / runtime)),
            ("train_steps_per_second", number(self.process.num_steps as f64 / runtime)),
            ("train_loss", number(self.mean_loss())),
        ])?;
        metrics.shift_remove("step");
        metrics.extend(self.process.clock.report());
        Ok(metrics)
    }

    /// The summary of a resumed run that was already complete. There is nothing to time, and the
    /// summary is not logged again.
    fn summary_without_times(&self) -> Map<String, Value> {
        [("train_loss", number(self.mean_loss())), ("epoch", self.state.epoch.into())]
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect()
    }

    /// The mean loss of all steps of the run that were not skipped.
    fn mean_loss(&self) -> f64 {
        self.progress.total_loss / self.num_updates().max(1) as f64
    }
}

/// A number in JSON, which has no NaN and no infinity: they become `null`.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
