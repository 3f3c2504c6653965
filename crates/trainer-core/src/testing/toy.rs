//! A learner with one weight, its data, and a minimal checkpoint store.

use crate::{
    BatchInfo, BatchSource, Batches, BoxError, CheckpointFolder, CheckpointStore, EvalSums, Learner, OutOfMemory,
    Saved, StepRecord, StepRequest, WindowFigures, WriteCheckpoint, WriteContent, json,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Learns the mean of the rows with momentum: `loss = ½ (weight − row)²`. Each row is one target
/// token, which counts as correct when the weight is within 1 of it. The learner is deterministic,
/// and a checkpoint holds every bit of it.
#[derive(Default)]
pub struct ToyLearner {
    model: Model,
    training: TrainingState,
    gradient: f64,
    window_sums: EvalSums,
    window_loss: f64,
    records: Vec<StepRecord>,
    eval_loss: Option<Box<dyn Fn(u64) -> f64>>,
    step_loss: Option<Box<dyn Fn(u64) -> f64>>,
    breaks_after: Option<u64>,
    eval: EvalSums,
    most_rows: Option<(usize, usize)>,
    update_without_room: Option<u64>,
}

/// What `model.json` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Model {
    weight: f64,
}

/// What `optimizer.json` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct TrainingState {
    momentum: f64,
    num_steps: u64,
}

impl ToyLearner {
    /// The weight.
    pub fn weight(&self) -> f64 {
        self.model.weight
    }

    /// The momentum, which is the state of the optimizer.
    pub fn momentum(&self) -> f64 {
        self.training.momentum
    }

    /// Makes evaluations return the loss `eval_loss(n)` after `n` optimizer steps.
    #[must_use]
    pub fn with_eval_loss(mut self, eval_loss: impl Fn(u64) -> f64 + 'static) -> Self {
        self.eval_loss = Some(Box::new(eval_loss));
        self
    }

    /// Makes optimizer step `n`, counted from 1, report the loss `step_loss(n)`. Skipped steps do
    /// not count.
    #[must_use]
    pub fn with_step_loss(mut self, step_loss: impl Fn(u64) -> f64 + 'static) -> Self {
        self.step_loss = Some(Box::new(step_loss));
        self
    }

    /// Makes memory run out in a forward and backward over more than `train` rows, and in an
    /// evaluation over more than `eval` rows.
    #[must_use]
    pub fn with_room_for(self, train: usize, eval: usize) -> Self {
        Self { most_rows: Some((train, eval)), ..self }
    }

    /// Makes memory run out in the update of optimizer step `step`.
    #[must_use]
    pub fn without_room_for_update(self, step: u64) -> Self {
        Self { update_without_room: Some(step), ..self }
    }

    /// Makes [`check_finite`](Learner::check_finite) fail from optimizer step `step` on.
    #[must_use]
    pub fn breaking_after(self, step: u64) -> Self {
        Self { breaks_after: Some(step), ..self }
    }

    fn check_room(batch: &ToyBatch, most: Option<usize>) -> Result<(), BoxError> {
        match most.filter(|most| batch.0.len() > *most) {
            Some(most) => Err(Self::out_of_memory(batch.0.len(), most)),
            None => Ok(()),
        }
    }

    fn out_of_memory(requested: usize, available: usize) -> BoxError {
        let bytes = |rows: usize| Some(8 * rows as u64);
        let (requested_bytes, total_bytes) = (bytes(requested), bytes(available));
        Box::new(OutOfMemory {
            device: "the toy".to_owned(),
            requested_bytes,
            free_bytes: None,
            total_bytes,
            source: None,
        })
    }

    /// The loss that the next optimizer step reports.
    fn loss(&self) -> f64 {
        self.step_loss.as_ref().map_or(self.window_loss, |loss| loss(self.training.num_steps + 1))
    }

    fn sums(&self, batch: &ToyBatch) -> EvalSums {
        let weight = self.model.weight;
        EvalSums {
            loss_sum: batch.0.iter().map(|row| 0.5 * (weight - row) * (weight - row)).sum(),
            correct_tokens: batch.0.iter().filter(|row| (weight - *row).abs() < 1.0).count() as u64,
            target_tokens: batch.0.len() as u64,
        }
    }
}

impl Learner for ToyLearner {
    type Batch = ToyBatch;

    fn forward_backward(&mut self, batch: &ToyBatch, window_target_tokens: u64) -> Result<(), BoxError> {
        let sums = self.sums(batch);
        self.window_loss += sums.loss_sum / window_target_tokens as f64;
        self.window_sums += sums;
        for row in &batch.0 {
            self.gradient += (self.model.weight - row) / window_target_tokens as f64;
        }
        // The check comes last, so that there is something to discard.
        Self::check_room(batch, self.most_rows.map(|(train, _)| train))
    }

    fn window_figures(&mut self) -> Result<Option<WindowFigures>, BoxError> {
        Ok(Some(WindowFigures { loss: self.loss(), grad_norm: self.gradient.abs() }))
    }

    fn discard_window(&mut self) -> Result<(), BoxError> {
        (self.gradient, self.window_loss, self.window_sums) = (0.0, 0.0, EvalSums::default());
        Ok(())
    }

    fn optimizer_step(&mut self, request: StepRequest) -> Result<(), BoxError> {
        if self.update_without_room == Some(self.training.num_steps + 1) {
            return Err(Self::out_of_memory(3, 2));
        }
        let grad_norm = self.gradient.abs();
        let clip = request.max_grad_norm.map_or(1.0, |max| (max / (grad_norm + 1e-6)).min(1.0));
        self.training.momentum = 0.9 * self.training.momentum + clip * self.gradient;
        let loss = self.loss();
        self.training.num_steps += 1;
        self.model.weight -= request.learning_rate * self.training.momentum;
        let EvalSums { correct_tokens, target_tokens, .. } = std::mem::take(&mut self.window_sums);
        self.records.push(StepRecord { loss, grad_norm, correct_tokens, target_tokens });
        (self.gradient, self.window_loss) = (0.0, 0.0);
        Ok(())
    }

    fn take_step_records(&mut self) -> Result<Vec<StepRecord>, BoxError> {
        Ok(std::mem::take(&mut self.records))
    }

    fn evaluate(&mut self, batch: &ToyBatch) -> Result<(), BoxError> {
        Self::check_room(batch, self.most_rows.map(|(_, eval)| eval))?;
        let sums = self.sums(batch);
        let scripted = self.eval_loss.as_ref().map(|loss| loss(self.training.num_steps) * sums.target_tokens as f64);
        self.eval += EvalSums { loss_sum: scripted.unwrap_or(sums.loss_sum), ..sums };
        Ok(())
    }

    fn take_eval_sums(&mut self) -> Result<EvalSums, BoxError> {
        Ok(std::mem::take(&mut self.eval))
    }

    fn check_finite(&mut self) -> Result<(), BoxError> {
        let is_finite =
            self.model.weight.is_finite() && self.breaks_after.is_none_or(|step| self.training.num_steps < step);
        if is_finite { Ok(()) } else { Err("weight is NaN".into()) }
    }

    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError> {
        let files = [("model.json", json::text(&self.model)?), ("optimizer.json", json::text(&self.training)?)];
        Ok(Box::new(move |folder| {
            let mut files = files.iter();
            files.try_for_each(|(name, text)| folder.write_file(Path::new(name), &mut |to| Ok(to.write_all(text)?)))
        }))
    }

    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError> {
        self.model = json::read(&dir.join("model.json"))?;
        self.training = json::read(&dir.join("optimizer.json"))?;
        Ok(())
    }
}

/// A batch of rows. A row is a number.
#[derive(Clone, Debug, PartialEq)]
pub struct ToyBatch(pub Vec<f64>);

impl BatchInfo for ToyBatch {
    fn num_rows(&self) -> u64 {
        self.0.len() as u64
    }

    fn num_target_tokens(&self) -> u64 {
        self.0.len() as u64
    }

    /// Two tokens for each row, so that the number differs from the target tokens.
    fn num_tokens(&self) -> u64 {
        2 * self.0.len() as u64
    }
}

/// Rows between 4 and 6, in another order in each epoch.
#[derive(Clone, Debug)]
pub struct ToySource {
    rows: Vec<f64>,
    batch_size: usize,
}

impl ToySource {
    /// A source of `num_rows` rows in batches of `batch_size` (at least 1).
    pub fn new(num_rows: usize, batch_size: usize) -> Self {
        let rows = (0..num_rows).map(|row| 5.0 + (row as f64 * 0.7).sin()).collect();
        Self { rows, batch_size: batch_size.max(1) }
    }

    /// Sets the value of row `number`, counted from 1. A value that is not finite makes the steps
    /// with this row bad.
    #[must_use]
    pub fn with_row(mut self, number: usize, value: f64) -> Self {
        if let Some(row) = number.checked_sub(1).and_then(|index| self.rows.get_mut(index)) {
            *row = value;
        }
        self
    }
}

impl BatchSource for ToySource {
    type Batch = ToyBatch;

    fn num_rows(&self) -> usize {
        self.rows.len()
    }

    fn num_batches(&self) -> usize {
        self.rows.len().div_ceil(self.batch_size)
    }

    fn batches(&self, epoch: u64, first: usize) -> Result<Batches<'_, ToyBatch>, BoxError> {
        let mut order = self.rows.clone();
        if !order.is_empty() {
            let shift = epoch as usize * 7 % order.len();
            order.rotate_left(shift);
        }
        let batches: Vec<_> = order.chunks(self.batch_size).map(|rows| Ok(ToyBatch(rows.to_vec()))).collect();
        Ok(Box::new(batches.into_iter().skip(first)))
    }

    fn split_batch(&self, batch: &ToyBatch, num_rows: usize) -> Result<Vec<ToyBatch>, BoxError> {
        Ok(batch.0.chunks(num_rows.max(1)).map(|rows| ToyBatch(rows.to_vec())).collect())
    }

    fn row_numbers(&self, batch: &ToyBatch) -> Vec<u64> {
        let number = |row: &f64| self.rows.iter().zip(1..).find(|(own, _)| own.to_bits() == row.to_bits());
        batch.0.iter().filter_map(number).map(|(_, number)| number).collect()
    }
}

/// A store that writes each checkpoint at once, straight into its folder. It is not safe against
/// crashes: an interrupted save leaves half a checkpoint.
#[derive(Debug)]
pub struct PlainStore {
    output_dir: PathBuf,
    saved: Option<Saved>,
}

impl PlainStore {
    /// A store of the checkpoints `output_dir/checkpoint-<global_step>`.
    pub fn new(output_dir: &Path) -> Self {
        Self { output_dir: output_dir.to_owned(), saved: None }
    }
}

impl CheckpointStore for PlainStore {
    fn save(&mut self, global_step: u64, write: WriteCheckpoint) {
        let mut folder = PlainFolder(self.path(global_step));
        let outcome = write(&mut folder).map(|()| folder.0);
        self.saved = Some(Saved { global_step, outcome });
    }

    fn poll(&mut self) -> Option<Saved> {
        self.saved.take()
    }

    fn wait(&mut self) -> Option<Saved> {
        self.saved.take()
    }

    fn path(&self, global_step: u64) -> PathBuf {
        self.output_dir.join(format!("checkpoint-{global_step}"))
    }
}

/// A folder whose files are written in place.
#[derive(Clone, Debug)]
pub struct PlainFolder(pub PathBuf);

impl CheckpointFolder for PlainFolder {
    fn write_file(&mut self, path: &Path, content: WriteContent<'_>) -> Result<(), BoxError> {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
        content(&mut std::fs::File::create(path)?)
    }
}
