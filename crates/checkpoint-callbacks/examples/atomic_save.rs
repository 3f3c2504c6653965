//! Uses the store alone, without a training run. A saved folder is complete or does not exist, and
//! is checked before it is used.
//!
//! `cargo run -p checkpoint-callbacks --example atomic_save`

use checkpoint_callbacks::{DirectoryStore, newest_complete};
use std::path::Path;
use trainer_core::{BoxError, CheckpointStore};

fn main() -> Result<(), BoxError> {
    let output_dir = std::env::temp_dir().join("atomic_save");
    let mut store = DirectoryStore::open(&output_dir)?;
    for step in [10, 20] {
        let weights = vec![step as u8; 1 << 20];
        // A thread of the store runs this closure, so it owns what it needs.
        store.save(
            step,
            Box::new(move |folder| folder.write_file(Path::new("weights"), &mut |file| Ok(file.write_all(&weights)?))),
        );
        if let Some(saved) = store.wait() {
            println!("saved:   {}", saved.outcome?.display());
        }
    }

    // As if the disk had lost the end of a file.
    std::fs::write(store.path(20).join("weights"), "short")?;

    let newest = newest_complete(&output_dir)?;
    for skipped in &newest.skipped {
        println!("skipped: {}", skipped.error);
    }
    println!("newest:  {:?}", newest.checkpoint.map(|checkpoint| checkpoint.path));
    Ok(())
}
