//! Shows which checkpoints are kept and which one is published when the middle one of three epochs
//! is the best.
//!
//! `cargo run -p checkpoint-callbacks --example best_of_three`

use checkpoint_callbacks::{
    BestModelCheckpointCallback, DirectoryStore, EarlyStopping, Publication, Rotation, find_checkpoints, publish,
};
use trainer_core::testing::{ToyLearner, ToySource};
use trainer_core::{BoxError, ProgressBar, Trainer, TrainingArguments};

fn main() -> Result<(), BoxError> {
    let output_dir = std::env::temp_dir().join("best_of_three");
    let recipe = TrainingArguments::documented_recipe();
    let arguments = TrainingArguments { output_dir: output_dir.clone(), num_train_epochs: 3.0, ..recipe };
    let (train, eval) = (ToySource::new(16, 8), ToySource::new(8, 8));
    let mut learner = ToyLearner::default().with_eval_loss(|step| [0.9, 0.7, 0.8][step as usize / 2 - 1]);
    let mut store = DirectoryStore::open(&output_dir)?;

    let output = Trainer::builder(arguments, &mut learner, &train)
        .eval_source(&eval)
        .store(&mut store)
        .callback(BestModelCheckpointCallback)
        .callback(Rotation::new(1))
        .callback(EarlyStopping::new(2))
        .callback(ProgressBar::new(trainer_core::indicatif::MultiProgress::new()))
        .build()?
        .train()?;

    for checkpoint in find_checkpoints(&output_dir)? {
        println!("kept      {}", checkpoint.path.display());
    }
    let best = output.state.best_model_checkpoint.ok_or("nothing was saved")?;
    for path in publish(&best, &output_dir, Publication::default())? {
        println!("published {}", path.display());
    }
    Ok(())
}
