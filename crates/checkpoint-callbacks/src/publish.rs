//! Copies a checkpoint's model and tokenizer to the output folder, where `from_pretrained` looks
//! for them.

use crate::disk::{Disk, RealDisk};
use crate::durable::{self, NewFile};
use crate::manifest::{FileEntry, Manifest};
use crate::{Error, MANIFEST_FILE_NAME, Result};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use trainer_core::{PROGRESS_FILE_NAME, TRAINING_ARGS_FILE_NAME, TrainerState};

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

const SINGLE_FILE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SHARD_PATTERN: &str = "model-*-of-*.safetensors";
const WEIGHTS_SUFFIX: &str = ".safetensors";

/// Files of a checkpoint that only a resumed run needs. They are not published. A `*` matches any
/// text.
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

/// Which files of a particular kind of model are published or replaced. Patterns are names relative
/// to the folder, in which a `*` matches any text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publication<'a> {
    /// Files that are not published, in addition to [`NOT_PUBLISHED`].
    pub not_published: &'a [&'a str],
    /// Files that a model can have in addition to its weights. If the checkpoint does not have one
    /// and the output folder does, it belongs to an earlier model and is removed.
    pub model_files: &'a [&'a str],
}

/// Copies the files of `checkpoint` to `output_dir`, except those that only a resumed run needs,
/// and returns their paths there. Files of an earlier model that the new one does not have are
/// removed. All other files stay.
///
/// Each file is first written beside its place and compared with the manifest of the checkpoint.
/// Only when all files are complete and flushed are they renamed. A failure before that, such as a
/// full disk, leaves an earlier model as it was.
///
/// The weights change at one instant. Shards get names that are not in use, and nothing loads them
/// before their index is in place. Files of the earlier model are removed afterwards, beginning
/// with a file that would be loaded in place of the new weights. So the weights are complete and of
/// one model at any instant. `config.json` changes immediately before them.
///
/// # Errors
/// Those of the checkpoint, such as [`Error::Incomplete`], when it is damaged, and [`Error::File`]
/// when the disk fails.
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
    let mut staging = Staging { disk, checkpoint, output_dir, names, files: Vec::new() };
    let outcome = entries.iter().try_for_each(|entry| staging.add(entry)).and_then(|()| staging.rename_all());
    if outcome.is_err() {
        staging.remove_partial_files();
    }
    outcome?;
    let published: Vec<PathBuf> = staging.files.into_iter().map(|file| file.target).collect();
    let flushed = durable::sync_folders_of(disk, published.iter().map(PathBuf::as_path));
    // An earlier single file would be loaded in place of the new index. It is removed even if the
    // flush failed, because all other files are already those of the new model.
    remove_stale(disk, output_dir, &published, &[SINGLE_FILE])?;
    flushed?;
    // The index goes before its shards, so that no index names a missing shard.
    remove_stale(disk, output_dir, &published, &[INDEX, SHARD_PATTERN])?;
    remove_stale(disk, output_dir, &published, publication.model_files)?;
    Ok(published)
}

/// The role of a file in a model. Files are renamed in the order of their roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Other,
    /// Loaded when an index names it.
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
            name if matches_pattern(name, SHARD_PATTERN) => Self::Shard,
            _ => Self::Other,
        }
    }
}

/// The names of the shards in the output folder. They are those in the checkpoint, unless shards of
/// an earlier model have these names. Those are in use until the index is replaced, so the new
/// shards get a number at the end of their names.
struct ShardNames {
    /// The number, if one is needed.
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
        match (self.number, name.strip_suffix(WEIGHTS_SUFFIX)) {
            (Some(number), Some(start)) if Role::of(path) == Role::Shard => {
                format!("{start}-{number}{WEIGHTS_SUFFIX}").into()
            }
            _ => path.to_owned(),
        }
    }

    /// The text of an index, with its shard names replaced by these.
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

/// Files that are written beside their places.
struct Staging<'a> {
    disk: &'a dyn Disk,
    checkpoint: &'a Path,
    output_dir: &'a Path,
    names: ShardNames,
    files: Vec<StagedFile>,
}

struct StagedFile {
    partial: PathBuf,
    target: PathBuf,
}

impl Staging<'_> {
    /// Copies a file of the checkpoint beside its place, and compares it with the manifest.
    fn add(&mut self, entry: &FileEntry) -> Result<()> {
        let target = self.output_dir.join(self.names.name(&entry.path));
        if let Some(folder) = target.parent() {
            self.disk.create_folder(folder).map_err(Error::file("create", folder))?;
        }
        let partial = durable::partial_path(&target);
        self.files.push(StagedFile { partial: partial.clone(), target });
        let (size, sha256) = durable::copy(self.disk, self.checkpoint, &entry.path, &partial)?;
        if (size, &sha256) != (entry.size, &entry.sha256) {
            return Err(Error::Incomplete { path: self.checkpoint.to_owned(), reason: entry.differs() });
        }
        if self.names.number.is_some() && entry.path == Path::new(INDEX) {
            self.rename_shards_in(&partial)?;
        }
        Ok(())
    }

    fn rename_shards_in(&self, path: &Path) -> Result<()> {
        let index = fs::read(path).map_err(Error::file("read", path))?;
        let index = self.names.rename_in(&index).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        let mut file = NewFile::create(self.disk, path)?;
        file.write_all(&index).map_err(|error| file.error(error))?;
        file.finish().map(drop)
    }

    fn rename_all(&self) -> Result<()> {
        self.files.iter().try_for_each(|file| durable::rename(self.disk, &file.partial, &file.target))
    }

    /// Cleans up after an error. Ignores further errors, because the first one is reported.
    fn remove_partial_files(&self) {
        for file in &self.files {
            let _ = self.disk.remove_file(&file.partial);
        }
    }
}

/// Removes the files that match a pattern and are not `published`, in the order of the patterns.
fn remove_stale(disk: &dyn Disk, output_dir: &Path, published: &[PathBuf], patterns: &[&str]) -> Result<()> {
    let mut removed = Vec::new();
    for pattern in patterns {
        let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let within = output_dir.join(folder);
        // A link may lead to someone else's files.
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
            // This fails if the folder is not empty, and the folder stays.
            let _ = disk.remove_folder(&within);
        }
    }
    let folders_left = removed.iter().map(PathBuf::as_path).filter(|path| path.parent().is_some_and(Path::exists));
    durable::sync_folders_of(disk, folders_left)
}

/// The files of a folder whose names match, and the partial files that an interrupted copy left.
fn files_like(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let entry = entry.map_err(Error::file("list", folder))?;
        let kind = entry.file_type().map_err(Error::file("read the metadata of", &entry.path()))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let copied = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
        if !kind.is_dir() && matches_pattern(copied.unwrap_or(&name), pattern) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a name matches a pattern, in which a `*` matches any text.
fn matches_pattern(name: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| matches_pattern(name, rest)))
}
