//! The least there is to a run: a learner, two splits, a store. Prints the log history.
//!
//! `cargo run -p trainer-core --example minimal`

use trainer_core::testing::{PlainStore, ToyLearner, ToySource};
use trainer_core::{BoxError, Trainer, TrainingArguments};

fn main() -> Result<(), BoxError> {
    let output_dir = std::env::temp_dir().join("trainer_core_minimal");
    let arguments = TrainingArguments { output_dir: output_dir.clone(), learning_rate: 0.1, ..Default::default() };
    let (train, eval) = (ToySource::new(100, 8), ToySource::new(20, 8));
    let mut learner = ToyLearner::default();
    let mut store = PlainStore::new(&output_dir);

    let output = Trainer::new(arguments, &mut learner, &train, Some(&eval), &mut store)?.train()?;

    for entry in &output.state.log_history {
        println!("{}", serde_json::to_string(entry)?);
    }
    Ok(())
}
