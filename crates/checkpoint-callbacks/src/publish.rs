//! The best checkpoint's model and tokenizer, copied to the output folder, where `from_pretrained` looks for them.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use trainer_core::{PROGRESS_FILE_NAME, TRAINING_ARGS_FILE_NAME, TrainerState};

use crate::{
    Error, MANIFEST_FILE_NAME, Result,
    disk::{Disk, RealDisk},
    durable,
    manifest::Manifest,
};

/// Files of a checkpoint that are of use to a resumed run only and stay there. A `*` at the end stands for any rest.
pub const NOT_PUBLISHED: &[&str] = &[
    TrainerState::FILE_NAME,
    PROGRESS_FILE_NAME,
    TRAINING_ARGS_FILE_NAME,
    MANIFEST_FILE_NAME,
    "optimizer*",
    "scheduler*",
    "rng_state*",
    "hidden_bits*",
    "training_state*",
];

/// Copies all files of `checkpoint` to `output_dir` but those of [`NOT_PUBLISHED`] and `also_excluded`, and returns their
/// paths there.
///
/// Each is written beside its place and compared with the checkpoint's manifest. When all are there and flushed they are
/// renamed: weights last, their index very last, so that a model is never described by files it does not have. What fails
/// before, a full disk say, leaves an earlier model as it was. Weights of an earlier model that the new one does not name are
/// removed.
pub fn publish(checkpoint: &Path, output_dir: &Path, also_excluded: &[&str]) -> Result<Vec<PathBuf>> {
    publish_on(&RealDisk, checkpoint, output_dir, also_excluded)
}

pub(crate) fn publish_on(
    disk: &dyn Disk,
    checkpoint: &Path,
    output_dir: &Path,
    also_excluded: &[&str],
) -> Result<Vec<PathBuf>> {
    let manifest = Manifest::read(checkpoint)?;
    let is_excluded = |path: &Path| {
        let name = path.to_string_lossy();
        NOT_PUBLISHED.iter().chain(also_excluded).any(|pattern| matches_pattern(&name, pattern))
    };
    let mut files = durable::files_under(checkpoint)?;
    files.retain(|path| !is_excluded(path));
    files.sort_by(|one, other| weight_rank(one).cmp(&weight_rank(other)).then(one.cmp(other)));

    let mut staged = Vec::new();
    let outcome = files
        .iter()
        .try_for_each(|path| stage(disk, checkpoint, output_dir, path, &manifest, &mut staged))
        .and_then(|()| staged.iter().try_for_each(|Staged { path, target }| durable::rename(disk, path, target)));
    if outcome.is_err() {
        // The first error is the one to report; those in place already are not found here any more.
        staged.iter().for_each(|staged| drop(disk.remove_file(&staged.path)));
    }
    outcome?;
    remove_stale_weights(disk, output_dir, &files)?;
    durable::sync_folders_of(disk, staged.iter().map(|staged| staged.target.as_path()))?;
    Ok(staged.into_iter().map(|staged| staged.target).collect())
}

/// A file beside its place.
struct Staged {
    path: PathBuf,
    target: PathBuf,
}

fn stage(
    disk: &dyn Disk,
    checkpoint: &Path,
    output_dir: &Path,
    path: &Path,
    manifest: &Manifest,
    staged: &mut Vec<Staged>,
) -> Result<()> {
    let incomplete = |reason| Error::Incomplete { path: checkpoint.to_owned(), reason };
    let Some(entry) = manifest.entry(path) else {
        return Err(incomplete(format!("{} is not in its {MANIFEST_FILE_NAME}", path.display())));
    };
    let target = output_dir.join(path);
    if let Some(folder) = target.parent() {
        disk.create_folder(folder).map_err(Error::file("create", folder))?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.with_file_name(format!(".{name}.partial"));
    staged.push(Staged { path: beside.clone(), target });
    let (size, sha256) = durable::copy(disk, checkpoint, path, &beside)?;
    if (size, &sha256) == (entry.size, &entry.sha256) {
        return Ok(());
    }
    Err(incomplete(format!("{} is not what was saved (its SHA-256 differs)", path.display())))
}

/// Files first, then weights, then the index that names them.
fn weight_rank(path: &Path) -> u8 {
    let name = path.to_string_lossy();
    match name.as_ref() {
        "model.safetensors.index.json" => 2,
        name if is_weights(name) => 1,
        _ => 0,
    }
}

/// `model.safetensors`, its shards, or their index.
fn is_weights(name: &str) -> bool {
    let is_shard = name.starts_with("model-") && name.contains("-of-") && name.ends_with(".safetensors");
    is_shard || name == "model.safetensors" || name == "model.safetensors.index.json"
}

fn remove_stale_weights(disk: &dyn Disk, output_dir: &Path, published: &[PathBuf]) -> Result<()> {
    for entry in fs::read_dir(output_dir).map_err(Error::file("list", output_dir))? {
        let entry = entry.map_err(Error::file("list", output_dir))?;
        let name = entry.file_name();
        let is_new = published.iter().any(|path| path.as_os_str().cmp(&name) == Ordering::Equal);
        if !is_new && is_weights(&name.to_string_lossy()) {
            disk.remove_file(&entry.path()).map_err(Error::file("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn matches_pattern(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::write_manifest;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        durable::files_under(dir).unwrap().iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    const SHARDED: [(&str, &str); 11] = [
        ("config.json", "{}"),
        ("model.safetensors.index.json", "index"),
        ("model-00001-of-00002.safetensors", "one"),
        ("model-00002-of-00002.safetensors", "two"),
        ("tokenizer.json", "{}"),
        ("extra/chat_template.jinja", "hello"),
        ("optimizer.safetensors", "moments"),
        ("rng_state.bin", "rng"),
        ("trainer_state.json", "{}"),
        ("training_progress.json", "{}"),
        ("my_state", "x"),
    ];

    #[test]
    fn model_and_tokenizer_go_and_the_rest_stays() {
        let (checkpoint, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(checkpoint.path(), &SHARDED);
        write_manifest(checkpoint.path(), 1);
        let stale = [("model.safetensors", "a"), ("model-00003-of-00003.safetensors", "b"), ("config.json", "old")];
        write(output.path(), &stale);
        write(output.path(), &[("metrics.jsonl", "kept"), ("trainer_state.json", "kept")]);

        let published = publish(checkpoint.path(), output.path(), &["my_state"]).unwrap();
        assert_eq!(
            names(output.path()),
            [
                "config.json",
                "extra/chat_template.jinja",
                "metrics.jsonl",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.json",
                "trainer_state.json",
            ]
        );
        for path in &published {
            let relative = path.strip_prefix(output.path()).unwrap();
            assert_eq!(fs::read(path).unwrap(), fs::read(checkpoint.path().join(relative)).unwrap());
        }
        assert_eq!(fs::read_to_string(output.path().join("trainer_state.json")).unwrap(), "kept");
        let order: Vec<_> = published[3..].iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        let expected =
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"];
        assert_eq!(order, expected);
    }

    #[test]
    fn a_damaged_checkpoint_is_not_published_over_a_good_model() {
        let (checkpoint, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(checkpoint.path(), &[("model.safetensors", "weights")]);
        write_manifest(checkpoint.path(), 1);
        write(checkpoint.path(), &[("model.safetensors", "weightz")]);
        write(output.path(), &[("model.safetensors", "good")]);
        let message = publish(checkpoint.path(), output.path(), &[]).unwrap_err().to_string();
        assert!(message.contains("model.safetensors is not what was saved"), "{message}");
        assert_eq!(names(output.path()), ["model.safetensors"]);
        assert_eq!(fs::read_to_string(output.path().join("model.safetensors")).unwrap(), "good");
    }
}
