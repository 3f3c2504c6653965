//! The store alone, without a training run: a folder that is there whole or not at all, and is
//! checked when it is read.
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
        // Written by a thread of the store's; it owns what it needs.
        store.save(
            step,
            Box::new(move |folder| folder.write_file(Path::new("weights"), &mut |file| Ok(file.write_all(&weights)?))),
        );
        if let Some(saved) = store.wait() {
            println!("saved:   {}", saved.outcome?.display());
        }
    }

    // A disk that loses the end of a file.
    std::fs::write(store.path(20).join("weights"), "short")?;

    let newest = newest_complete(&output_dir)?;
    for skipped in &newest.skipped {
        println!("skipped: {}", skipped.error);
    }
    println!("whole:   {:?}", newest.checkpoint.map(|checkpoint| checkpoint.path));
    Ok(())
}
