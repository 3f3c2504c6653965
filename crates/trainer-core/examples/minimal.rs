//! The smallest complete run: a learner, a training and an evaluation split, and a store. It prints
//! the log history.
//!
//! `cargo run -p trainer-core --example minimal`

use trainer_core::testing::{PlainStore, ToyLearner, ToySource};
use trainer_core::{BoxError, Trainer, TrainingArguments};

fn main() -> Result<(), BoxError> {
    let output_dir = std::env::temp_dir().join("trainer_core_minimal");
    let arguments = TrainingArguments {
        output_dir: output_dir.clone(),
        learning_rate: 0.1,
        ..TrainingArguments::documented_recipe()
    };
    let (train, eval) = (ToySource::new(100, 8), ToySource::new(20, 8));
    let mut learner = ToyLearner::default();
    let mut store = PlainStore::new(&output_dir);

    let trainer = Trainer::builder(arguments, &mut learner, &train).eval_source(&eval).store(&mut store).build()?;
    let output = trainer.train()?;

    for entry in &output.state.log_history {
        println!("{}", serde_json::to_string(entry)?);
    }
    Ok(())
}
