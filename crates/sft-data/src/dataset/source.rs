//! Where a dataset is: a file, a folder, or a hub repository.

use super::card::{ChooseError, Configurations, DeclaredConfig};
use super::data_files::{self, DataFiles};
use super::format::Format;
use super::read::Reader;
use super::repository::{OpenRepository, Repository};
use super::split_files::{self, SplitFiles};
use super::{DatasetConfig, patterns, saved};
use crate::Error;
use crate::untrusted::{archive, regular_file};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};
use std::{fmt, fs};
use tempfile::TempDir;

/// Number of file names that an error quotes.
const NUM_QUOTED: usize = 5;
/// The dataset card.
const CARD: &str = "README.md";
/// A card without text, whose keys replace those of the other.
const STANDALONE: &str = ".huggingface.yaml";
/// The largest dataset card that is read.
const MAX_CARD_BYTES: u64 = 64 << 20;

/// A dataset that exists.
pub(super) enum Source<'a> {
    File(PathBuf),
    Folder {
        path: PathBuf,
        names: Vec<String>,
    },
    /// A zip archive and the folder that it is unpacked in, which is removed in the end.
    Archive {
        path: PathBuf,
        unpacked: TempDir,
        names: Vec<String>,
    },
    Hub(Box<dyn Repository + 'a>),
    /// Files that the user named, each by its path, and the reader if it was named too.
    Files {
        name: String,
        format: Option<Format>,
        splits: SplitFiles,
    },
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Folder { path, .. } | Self::Archive { path, .. } => {
                write!(f, "{}", path.display())
            }
            Self::Hub(repository) => write!(f, "{repository}"),
            Self::Files { name, .. } => write!(f, "files of {name}"),
        }
    }
}

impl<'a> Source<'a> {
    pub(super) fn open(config: &DatasetConfig, hub: &'a dyn OpenRepository) -> Result<Self, Error> {
        let name = config.dataset_name.as_str();
        let path = Path::new(name);
        if let (Some(format), false) = (data_files::reader_named(name), path.exists()) {
            return Self::named_files(config, format);
        }
        if path.is_dir() {
            let mut names = Vec::new();
            list(path, "", &mut Vec::new(), &mut names)?;
            return Ok(Self::Folder { path: path.to_owned(), names });
        }
        if path.is_file() && name.to_ascii_lowercase().ends_with(".zip") {
            let unpacked = archive::unpack(path)?;
            let mut names = Vec::new();
            list(unpacked.path(), "", &mut Vec::new(), &mut names)?;
            return Ok(Self::Archive { path: path.to_owned(), unpacked, names });
        }
        if path.exists() {
            return match (&config.data_files, &config.data_dir) {
                (None, None) => Ok(Self::File(path.to_owned())),
                _ => {
                    Err(Error::config("dataset_name", name, "is a file itself; leave out `data_files` and `data_dir`"))
                }
            };
        }
        if patterns::is_pattern(name) && config.data_files.is_none() && config.data_dir.is_none() {
            let splits = data_files::anywhere(&DataFiles::of_train(name), Path::new(""))?;
            return Ok(Self::Files { name: name.to_owned(), format: None, splits });
        }
        // `data/train.jsonl` could be the name of a repository, but it is a file that is missing.
        let repository = match Format::of(name) {
            Some(_) => None,
            None => hub.open(name, &config.dataset_revision).map_err(Error::Repository)?,
        };
        repository.map(Self::Hub).ok_or_else(|| Error::DatasetNotFound { name: name.to_owned() })
    }

    /// The folder with the files, if they are in one.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder { path, .. } => Some(path),
            Self::Archive { unpacked, .. } => Some(unpacked.path()),
            _ => None,
        }
    }

    /// Puts the name of the archive in place of where it is unpacked.
    pub(super) fn rename(&self, error: Error) -> Error {
        match self {
            Self::Archive { path, unpacked, .. } => error.moved(unpacked.path(), path),
            _ => error,
        }
    }

    /// The files that `data_files` names, or that are in `data_dir`.
    fn named_files(config: &DatasetConfig, format: Format) -> Result<Self, Error> {
        let base = Path::new(config.data_dir.as_deref().unwrap_or(""));
        let splits = match (&config.data_files, &config.data_dir) {
            (Some(files), _) => data_files::anywhere(files, base)?,
            (None, Some(folder)) => {
                let mut names = Vec::new();
                list(base, "", &mut Vec::new(), &mut names)?;
                let mut splits = split_files::find(&names, None);
                for name in splits.iter_mut().flat_map(|(_, files)| files) {
                    *name = base.join(&name).to_string_lossy().into_owned();
                }
                if splits.is_empty() {
                    return Err(Error::NoDataFiles { location: folder.clone(), found: describe(&names) });
                }
                splits
            }
            (None, None) => {
                let fix = format!("`dataset_name` is {}: name the files to read", config.dataset_name);
                return Err(Error::config("data_files", "none", fix));
            }
        };
        Ok(Self::Files { name: config.dataset_name.clone(), format: Some(format), splits })
    }

    /// The files of every split, all of one format, and how to read them.
    pub(super) fn split_files(&self, config: &DatasetConfig) -> Result<(Reader, SplitFiles), Error> {
        let names = match self {
            Self::File(path) => {
                let name = path.to_string_lossy().into_owned();
                let format = Format::of(&name).ok_or_else(|| Error::UnknownFormat { path: path.clone() })?;
                return Ok((Reader::new(format), vec![("train".to_owned(), vec![name])]));
            }
            Self::Folder { names, .. } | Self::Archive { names, .. } => names.as_slice(),
            Self::Hub(repository) => repository.files(),
            Self::Files { format: Some(format), splits, .. } => return Ok((Reader::new(*format), splits.clone())),
            Self::Files { format: None, splits, .. } => {
                let (format, splits) = one_format(splits.clone(), self)?;
                return Ok((Reader::new(format), splits));
            }
        };
        let folder = config.data_dir.as_deref().map(data_files::card_path).filter(|folder| !folder.is_empty());
        if let Some(outside) = config.data_dir.as_deref().filter(|folder| leads_out(folder)) {
            let fix =
                format!("leads out of {self}; for files anywhere `dataset_name` is json, csv, parquet, text or arrow");
            return Err(Error::config("data_dir", outside, fix));
        }
        if config.data_files.is_none()
            && folder.is_none()
            && let Some(splits) = saved::splits(names, &|name| self.json_of(name))?
        {
            return Ok((Reader::new(Format::Arrow), splits));
        }
        let card = self.card(config)?;
        let declared = card.as_ref().map(|(_, declared)| declared);
        let is_chosen = config.data_files.is_some() || folder.is_some();
        if let Some(missing) = declared
            .filter(|_| !is_chosen)
            .into_iter()
            .flat_map(DeclaredConfig::named_files)
            .find(|file| !names.iter().any(|name| name == file || name.starts_with(&format!("{file}/"))))
        {
            let found = format!("its README.md names {missing}, which is not there");
            return Err(Error::NoDataFiles { location: self.to_string(), found });
        }
        let none_found = || Error::NoDataFiles { location: self.to_string(), found: describe(names) };
        let (format, splits) = match (&config.data_files, folder) {
            (Some(files), folder) => {
                one_format(data_files::among(names, files, folder.as_deref(), &self.to_string())?, self)?
            }
            (None, Some(folder)) => {
                split_files::choose_format(split_files::find_in(&folder, names)).ok_or_else(none_found)?
            }
            (None, None) => split_files::choose_format(split_files::find(names, declared)).ok_or_else(none_found)?,
        };
        let reader = match card {
            Some((path, declared)) => Reader::declared(format, &declared.options).map_err(|problem| {
                Error::BadFile { path, problem: format!("configuration `{}`: {problem}", declared.name) }
            })?,
            None => Reader::new(format),
        };
        Ok((reader, splits))
    }

    /// Local paths of the files of a split, which are downloaded if necessary.
    pub(super) fn fetch(&self, names: &[String]) -> Result<Vec<PathBuf>, Error> {
        self.check_shards(names)?;
        match self {
            Self::File(path) => Ok(vec![path.clone()]),
            Self::Files { .. } => Ok(names.iter().map(PathBuf::from).collect()),
            Self::Folder { .. } | Self::Archive { .. } => {
                let path = self.folder().unwrap_or(Path::new(""));
                let inside = |name: &String| {
                    let file = path.join(name);
                    match regular_file::contained(&file, path) {
                        Ok(()) => Ok(file),
                        Err(source) => Err(Error::io(file, source)),
                    }
                };
                names.iter().map(inside).collect()
            }
            Self::Hub(repository) => {
                names.iter().map(|name| repository.fetch(name).map_err(Error::Repository)).collect()
            }
        }
    }

    /// The configuration that the dataset card declares, and the file that declares it.
    fn card(&self, config: &DatasetConfig) -> Result<Option<(PathBuf, DeclaredConfig)>, Error> {
        let mut path = PathBuf::from(CARD);
        let mut found = Configurations::default();
        for name in [CARD, STANDALONE] {
            let Some(file) = self.small_file(name)? else { continue };
            let bad = |problem| Error::BadFile { path: file.clone(), problem };
            let bytes = regular_file::read(&file, MAX_CARD_BYTES).map_err(|source| Error::io(&file, source))?;
            let text = String::from_utf8_lossy(&bytes);
            let configurations = match name {
                CARD => Configurations::of_card(&text),
                _ => Configurations::of_yaml(&text, 0),
            };
            if let Some(configurations) = configurations.map_err(bad)? {
                (path, found) = (file, configurations);
            }
        }
        match found.choose(config.dataset_config.as_deref()) {
            Ok(declared) => Ok(declared.map(|declared| (path, declared))),
            Err(ChooseError::Card(problem)) => Err(Error::BadFile { path, problem }),
            Err(ChooseError::Wanted(error)) => Err(error),
        }
    }

    /// The path and content of a small file of JSON. `None` if it does not exist.
    fn json_of(&self, name: &str) -> Result<Option<(PathBuf, Value)>, Error> {
        let Some(path) = self.small_file(name)? else { return Ok(None) };
        let bytes = regular_file::read(&path, MAX_CARD_BYTES).map_err(|source| Error::io(&path, source))?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some((path, value))),
            Err(error) => Err(Error::BadFile { path, problem: format!("is not JSON: {error}") }),
        }
    }

    /// The local path of a file that need not exist.
    fn small_file(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        let is_there = match self {
            Self::File(_) | Self::Files { .. } => false,
            Self::Folder { .. } | Self::Archive { .. } => self
                .folder()
                .and_then(|folder| fs::metadata(folder.join(name)).ok())
                .is_some_and(|found| !found.is_dir()),
            Self::Hub(repository) => repository.files().iter().any(|file| file == name),
        };
        if !is_there {
            return Ok(None);
        }
        Ok(self.fetch(&[name.to_owned()])?.pop())
    }

    /// `-of-00003` in the name of a shard tells how many there are. Some may have been left out on
    /// purpose, but not where only those are there that have been downloaded before.
    fn check_shards(&self, names: &[String]) -> Result<(), Error> {
        match (split_files::missing_shards(names), self) {
            (None, _) => Ok(()),
            (Some(missing), Self::Hub(repository)) if repository.is_partial() => {
                Err(Error::MissingShards { location: self.to_string(), missing })
            }
            (Some(missing), _) => {
                tracing::warn!("{self} is not complete: {missing}. Training on what is there");
                Ok(())
            }
        }
    }
}

/// Collects the names of all files below a folder, relative to it. Links are followed, hidden files
/// are left out. `above` holds the folders on the path, because following a link back to one of
/// them would never end. The first of them is the whole folder, which no link may leave.
pub(super) fn list(
    folder: &Path,
    prefix: &str,
    above: &mut Vec<PathBuf>,
    names: &mut Vec<String>,
) -> Result<(), Error> {
    let place = folder.canonicalize().map_err(|source| Error::io(folder, source))?;
    if above.contains(&place) {
        return Ok(());
    }
    if let Some(whole) = above.first() {
        regular_file::contained(folder, whole).map_err(|source| Error::io(folder, source))?;
    }
    above.push(place);
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, source))? {
        let entry = entry.map_err(|source| Error::io(folder, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            list(&path, &format!("{prefix}{name}/"), above, names)?;
        } else {
            names.push(format!("{prefix}{name}"));
        }
    }
    above.pop();
    Ok(())
}

/// Files that were named, which all have to be of one format.
fn one_format(splits: SplitFiles, source: &Source<'_>) -> Result<(Format, SplitFiles), Error> {
    let named =
        |name: &str| Path::new(name).file_name().map_or(name.into(), |name| name.to_string_lossy()).into_owned();
    let mut first: Option<(Format, &str)> = None;
    for name in splits.iter().flat_map(|(_, files)| files) {
        let format = Format::of(name).ok_or_else(|| Error::UnknownFormat { path: name.into() })?;
        match first {
            None => first = Some((format, name)),
            Some((known, _)) if known == format => {}
            Some((_, before)) => {
                let files = format!("{} and {}", named(before), named(name));
                return Err(Error::config("data_files", files, "files of one format each; convert some of them"));
            }
        }
    }
    let format = first.map(|(format, _)| format);
    let none = || Error::NoDataFiles { location: source.to_string(), found: "no files are named".to_owned() };
    Ok((format.ok_or_else(none)?, splits))
}

/// Whether a folder is not below the one that it is relative to.
fn leads_out(folder: &str) -> bool {
    let path = Path::new(folder);
    path.is_absolute() || path.components().any(|part| part == Component::ParentDir)
}

fn describe(names: &[String]) -> String {
    let has = |extension: &str| names.iter().any(|name| name.ends_with(extension));
    if names.is_empty() {
        return "it is empty".to_owned();
    }
    if has(".zip") {
        return "zip archives; unpack them, or name one of them as `dataset_name`".to_owned();
    }
    if has(".py") {
        return "a loading script, which is not run; try the `dataset_revision` refs/convert/parquet".to_owned();
    }
    let mut named = names.iter().take(NUM_QUOTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NUM_QUOTED {
        named.push_str(&format!(" and {} more", names.len() - NUM_QUOTED));
    }
    named
}

#[cfg(test)]
mod tests;
