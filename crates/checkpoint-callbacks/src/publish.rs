//! The best checkpoint's model and tokenizer, copied to the output folder, where `from_pretrained`
//! looks for them.

use crate::disk::{Disk, RealDisk};
use crate::durable::{self, NewFile};
use crate::manifest::{FileEntry, Manifest};
use crate::{Error, MANIFEST_FILE_NAME, Result};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use trainer_core::{PROGRESS_FILE_NAME, TRAINING_ARGS_FILE_NAME, TrainerState};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SHARDS: &str = "model-*-of-*.safetensors";
const WEIGHTS_END: &str = ".safetensors";

/// Files of a checkpoint that are of use to a resumed run only and stay there. A `*` stands for
/// anything.
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

/// What is particular to a model when it is published. Patterns are names, relative to the folder;
/// a `*` stands for anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publication<'a> {
    /// Files that stay in the checkpoint, besides [`NOT_PUBLISHED`].
    pub not_published: &'a [&'a str],
    /// Files that a model can have besides its weights. Those in the output folder that the
    /// checkpoint lacks are an earlier model's.
    pub of_a_model: &'a [&'a str],
}

/// Copies the files of `checkpoint` to `output_dir` but those that are of use to a resumed run
/// only, and returns their paths there. What an earlier model had and this one has not is removed;
/// all other files are left alone.
///
/// Each file is written beside its place and compared with the checkpoint's manifest. When all are
/// there and flushed they are renamed, and what fails before, a full disk say, leaves an earlier
/// model as it was. The weights change in one go: shards have no names that are in use, and count
/// from the moment that their index has its place. What the earlier model leaves goes afterwards,
/// first of all what would be loaded in place of the new weights. So at any instant the weights are
/// whole and all of one model; `config.json` changes immediately before them.
///
/// # Errors
/// [`Error::Incomplete`] and others of the checkpoint when it is damaged, [`Error::File`] when the
/// disk fails.
pub fn publish(checkpoint: &Path, output_dir: &Path, publication: Publication<'_>) -> Result<Vec<PathBuf>> {
    publish_on(&RealDisk, checkpoint, output_dir, publication)
}

pub(crate) fn publish_on(
    disk: &dyn Disk,
    checkpoint: &Path,
    output_dir: &Path,
    publication: Publication<'_>,
) -> Result<Vec<PathBuf>> {
    let manifest = Manifest::read(checkpoint)?;
    let patterns = NOT_PUBLISHED.iter().chain(publication.not_published);
    let is_excluded = |path: &Path| patterns.clone().any(|pattern| matches_pattern(&path.to_string_lossy(), pattern));
    let mut entries: Vec<&FileEntry> = manifest.files.iter().filter(|entry| !is_excluded(&entry.path)).collect();
    entries.sort_by_key(|entry| (Role::of(&entry.path), &entry.path));

    let names = ShardNames::not_in_use(output_dir, &entries);
    let mut staged: Vec<Staged> = Vec::new();
    let outcome = entries
        .iter()
        .try_for_each(|entry| stage(disk, checkpoint, entry, output_dir, &names, &mut staged))
        .and_then(|()| staged.iter().try_for_each(|Staged { path, target }| durable::rename(disk, path, target)));
    if outcome.is_err() {
        // The first error is the one to report; those in place already are not found here any more.
        staged.iter().for_each(|staged| drop(disk.remove_file(&staged.path)));
    }
    outcome?;
    let published: Vec<PathBuf> = staged.into_iter().map(|staged| staged.target).collect();
    let flushed = durable::sync_folders_of(disk, published.iter().map(PathBuf::as_path));
    // An earlier single file would be loaded in place of the index, which is on the disk by now:
    // with it goes the earlier model. Also where that could not be flushed, for all other files are
    // the new one's.
    remove_stale(disk, output_dir, &published, &[SINGLE_FILE])?;
    flushed?;
    // An index must not name shards that are gone.
    remove_stale(disk, output_dir, &published, &[INDEX, SHARDS])?;
    remove_stale(disk, output_dir, &published, publication.of_a_model)?;
    Ok(published)
}

/// What a file is to a model, in the order of renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Other,
    /// Counts as soon as an index names it.
    Shard,
    Config,
    /// The weights, or the index that names them.
    Weights,
}

impl Role {
    fn of(path: &Path) -> Self {
        match path.to_string_lossy().as_ref() {
            "config.json" => Self::Config,
            SINGLE_FILE | INDEX => Self::Weights,
            name if matches_pattern(name, SHARDS) => Self::Shard,
            _ => Self::Other,
        }
    }
}

/// What shards are called in the output folder: as in the checkpoint, with a number at the end
/// where shards of an earlier model have that name, as they are in use until the index is replaced.
struct ShardNames {
    number: Option<u32>,
}

impl ShardNames {
    fn not_in_use(output_dir: &Path, entries: &[&FileEntry]) -> Self {
        let shards = || entries.iter().map(|entry| &entry.path).filter(|path| Role::of(path) == Role::Shard);
        let is_free = |names: &Self| shards().all(|path| output_dir.join(names.name(path)).symlink_metadata().is_err());
        let mut numbers = std::iter::once(None).chain((2..).map(Some)).map(|number| Self { number });
        numbers.find(is_free).unwrap_or(Self { number: None })
    }

    fn name(&self, path: &Path) -> PathBuf {
        let name = path.to_string_lossy();
        match (self.number, name.strip_suffix(WEIGHTS_END)) {
            (Some(number), Some(start)) if Role::of(path) == Role::Shard => {
                format!("{start}-{number}{WEIGHTS_END}").into()
            }
            _ => path.to_owned(),
        }
    }

    /// The index with these names.
    fn rename_in(&self, index: &[u8]) -> serde_json::Result<Vec<u8>> {
        let mut index: Value = serde_json::from_slice(index)?;
        for shard in
            index.get_mut("weight_map").and_then(Value::as_object_mut).into_iter().flat_map(|map| map.values_mut())
        {
            if let Some(name) = shard.as_str() {
                *shard = self.name(Path::new(name)).to_string_lossy().into();
            }
        }
        serde_json::to_vec_pretty(&index)
    }
}

/// A file beside its place.
struct Staged {
    path: PathBuf,
    target: PathBuf,
}

fn stage(
    disk: &dyn Disk,
    checkpoint: &Path,
    entry: &FileEntry,
    output_dir: &Path,
    names: &ShardNames,
    staged: &mut Vec<Staged>,
) -> Result<()> {
    let target = output_dir.join(names.name(&entry.path));
    if let Some(folder) = target.parent() {
        disk.create_folder(folder).map_err(Error::file("create", folder))?;
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.with_file_name(format!(".{name}.partial"));
    staged.push(Staged { path: beside.clone(), target });
    let (size, sha256) = durable::copy(disk, checkpoint, &entry.path, &beside)?;
    if (size, &sha256) != (entry.size, &entry.sha256) {
        let reason = format!("{} is not what was saved (its SHA-256 differs)", entry.path.display());
        return Err(Error::Incomplete { path: checkpoint.to_owned(), reason });
    }
    if names.number.is_some() && entry.path == Path::new(INDEX) {
        let index = fs::read(&beside).map_err(Error::file("read", &beside))?;
        let index = names.rename_in(&index).map_err(|source| Error::Json { path: beside.clone(), source })?;
        let mut file = NewFile::create(disk, &beside)?;
        file.write_all(&index).map_err(|error| file.error(error))?;
        file.finish()?;
    }
    Ok(())
}

/// Removes what an earlier model had and the one that is in place now has not, in the order of the
/// patterns.
fn remove_stale(disk: &dyn Disk, output_dir: &Path, published: &[PathBuf], patterns: &[&str]) -> Result<()> {
    let mut removed = Vec::new();
    for pattern in patterns {
        let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let within = output_dir.join(folder);
        // A link may lead to somebody else's files.
        if !folder.is_empty() && !within.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let before = removed.len();
        for path in files_like(&within, name)? {
            if !published.contains(&path) {
                disk.remove_file(&path).map_err(Error::file("remove", &path))?;
                removed.push(path);
            }
        }
        if !folder.is_empty() && removed.len() > before {
            // Unless there is something else in it.
            let _ = disk.remove_folder(&within);
        }
    }
    let folders_left = removed.iter().map(PathBuf::as_path).filter(|path| path.parent().is_some_and(Path::exists));
    durable::sync_folders_of(disk, folders_left)
}

/// The files of a folder with a name like that, and what an interrupted copy of one has left.
fn files_like(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let entry = entry.map_err(Error::file("list", folder))?;
        let kind = entry.file_type().map_err(Error::file("look at", &entry.path()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let copied = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
        if !kind.is_dir() && matches_pattern(copied.unwrap_or(&name), pattern) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn matches_pattern(name: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| matches_pattern(name, rest)))
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
