//! A learner of your own in one page. It fits a line to points by gradient descent, with the loop,
//! schedule, logs, evaluations and checkpoints of this crate.
//!
//! `cargo run -p trainer-core --example line_fit`

use std::path::Path;
use trainer_core::testing::PlainStore;
use trainer_core::{
    BatchInfo, BatchSource, Batches, BoxError, EvalSums, Learner, ProgressBar, StepRecord, StepRequest, Trainer,
    TrainingArguments, WriteCheckpoint,
};

/// y = slope · x + offset.
#[derive(Default)]
struct Line {
    slope: f64,
    offset: f64,
    gradient: [f64; 2],
    loss: f64,
    targets: u64,
    records: Vec<StepRecord>,
    eval: EvalSums,
}

struct Points(Vec<[f64; 2]>);

impl Line {
    fn loss_sum(&self, points: &Points) -> f64 {
        points.0.iter().map(|[x, y]| (self.slope * x + self.offset - y).powi(2)).sum()
    }
}

impl Learner for Line {
    type Batch = Points;

    fn forward_backward(&mut self, batch: &Points, window_target_tokens: u64) -> Result<(), BoxError> {
        self.loss += self.loss_sum(batch) / window_target_tokens as f64;
        self.targets += batch.num_target_tokens();
        for [x, y] in &batch.0 {
            let error = 2.0 * (self.slope * x + self.offset - y) / window_target_tokens as f64;
            self.gradient[0] += error * x;
            self.gradient[1] += error;
        }
        Ok(())
    }

    fn optimizer_step(&mut self, request: StepRequest) -> Result<(), BoxError> {
        let [slope, offset] = std::mem::take(&mut self.gradient);
        let grad_norm = slope.hypot(offset);
        let clip = request.max_grad_norm.map_or(1.0, |max| (max / grad_norm).min(1.0));
        self.slope -= request.learning_rate * clip * slope;
        self.offset -= request.learning_rate * clip * offset;
        let (loss, target_tokens) = (std::mem::take(&mut self.loss), std::mem::take(&mut self.targets));
        self.records.push(StepRecord { loss, grad_norm, correct_tokens: 0, target_tokens });
        Ok(())
    }

    fn take_step_records(&mut self) -> Result<Vec<StepRecord>, BoxError> {
        Ok(std::mem::take(&mut self.records))
    }

    fn discard_window(&mut self) -> Result<(), BoxError> {
        (self.gradient, self.loss, self.targets) = ([0.0; 2], 0.0, 0);
        Ok(())
    }

    fn evaluate(&mut self, batch: &Points) -> Result<(), BoxError> {
        let (loss_sum, target_tokens) = (self.loss_sum(batch), batch.num_target_tokens());
        self.eval += EvalSums { loss_sum, correct_tokens: 0, target_tokens };
        Ok(())
    }

    fn take_eval_sums(&mut self) -> Result<EvalSums, BoxError> {
        Ok(std::mem::take(&mut self.eval))
    }

    fn snapshot(&mut self) -> Result<WriteCheckpoint, BoxError> {
        let text = format!("{} {}", self.slope, self.offset);
        Ok(Box::new(move |folder| {
            folder.write_file(Path::new("line.txt"), &mut |file| Ok(file.write_all(text.as_bytes())?))
        }))
    }

    fn load_checkpoint(&mut self, dir: &Path) -> Result<(), BoxError> {
        let text = std::fs::read_to_string(dir.join("line.txt"))?;
        let (slope, offset) = text.split_once(' ').ok_or("line.txt does not hold two numbers")?;
        (self.slope, self.offset) = (slope.parse()?, offset.parse()?);
        Ok(())
    }
}

impl BatchInfo for Points {
    fn num_rows(&self) -> u64 {
        self.0.len() as u64
    }

    fn num_target_tokens(&self) -> u64 {
        self.0.len() as u64
    }

    fn num_tokens(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Points on y = 3 x − 1, eight in a batch.
struct Samples(usize);

impl BatchSource for Samples {
    type Batch = Points;

    fn num_rows(&self) -> usize {
        self.0
    }

    fn num_batches(&self) -> usize {
        self.0.div_ceil(8)
    }

    fn batches(&self, _epoch: u64, first: usize) -> Result<Batches<'_, Points>, BoxError> {
        let batch = |index: usize| {
            let rows = index * 8..self.0.min(index * 8 + 8);
            Points(rows.map(|row| (row as f64 * 0.37).sin()).map(|x| [x, 3.0 * x - 1.0]).collect())
        };
        Ok(Box::new((first..self.num_batches()).map(move |index| Ok(batch(index)))))
    }
}

fn main() -> Result<(), BoxError> {
    let output_dir = std::env::temp_dir().join("line_fit");
    let arguments = TrainingArguments {
        output_dir: output_dir.clone(),
        learning_rate: 0.3,
        logging_steps: 20.0,
        ..TrainingArguments::documented_recipe()
    };
    let (train, eval) = (Samples(64), Samples(16));
    let mut line = Line::default();
    let mut store = PlainStore::new(&output_dir);
    let bars = trainer_core::indicatif::MultiProgress::new();
    let builder = Trainer::builder(arguments, &mut line, &train).eval_source(&eval).store(&mut store);
    let output = builder.callback(ProgressBar::new(bars)).build()?.train()?;
    println!("y = {:.3} x {:+.3} after {} steps", line.slope, line.offset, output.state.global_step);
    println!("checkpoints are in {}", output_dir.display());
    Ok(())
}
