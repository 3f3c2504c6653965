//! Where a dataset is: a file, a folder, or a hub repository.

use super::DatasetConfig;
use super::card::{self, DeclaredConfig};
use super::format::Format;
use super::split_files::{self, SplitFiles};
use crate::hub::{Repo, RepoKind, is_repo_id};
use crate::{Error, HubConfig};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// How many of the files found are named in an error.
const NUM_NAMED: usize = 5;

/// A dataset that exists.
pub(super) enum Source<'a> {
    File(PathBuf),
    Folder { path: PathBuf, names: Vec<String> },
    Hub(Box<Repo<'a>>),
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Folder { path, .. } => write!(f, "{}", path.display()),
            Self::Hub(repo) => write!(f, "{repo}"),
        }
    }
}

impl<'a> Source<'a> {
    pub(super) fn open(config: &'a DatasetConfig, hub: &'a HubConfig) -> Result<Self, Error> {
        let name = config.dataset_name.as_str();
        let path = Path::new(name);
        if path.is_dir() {
            let mut names = Vec::new();
            list(path, "", &mut Vec::new(), &mut names)?;
            return Ok(Self::Folder { path: path.to_owned(), names });
        }
        if path.exists() {
            return Ok(Self::File(path.to_owned()));
        }
        // `data/train.jsonl` would pass for a hub id; nobody means it as one.
        if !is_repo_id(name) || Format::of(name).is_some() {
            return Err(Error::DatasetNotFound { name: name.to_owned() });
        }
        Ok(Self::Hub(Box::new(Repo::open(hub, RepoKind::Dataset, name, &config.revision)?)))
    }

    /// The files of every split, all of one format.
    pub(super) fn split_files(&self, config: &DatasetConfig) -> Result<(Format, SplitFiles), Error> {
        let names = match self {
            Self::File(path) => {
                let name = path.to_string_lossy().into_owned();
                let format = Format::of(&name).ok_or_else(|| Error::UnknownFormat { path: path.clone() })?;
                return Ok((format, vec![("train".to_owned(), vec![name])]));
            }
            Self::Folder { names, .. } => names.as_slice(),
            Self::Hub(repo) => repo.files(),
        };
        let declared = self.declared(config)?;
        if let Some(missing) = declared
            .iter()
            .flat_map(DeclaredConfig::named_files)
            .find(|file| !names.iter().any(|name| name == file || name.starts_with(&format!("{file}/"))))
        {
            let found = format!("its README.md names {missing}, which is not there");
            return Err(Error::NoDataFiles { location: self.to_string(), found });
        }
        let splits = split_files::find(names, declared.as_ref());
        split_files::choose_format(splits)
            .ok_or_else(|| Error::NoDataFiles { location: self.to_string(), found: describe(names) })
    }

    /// Paths of files, downloaded if need be.
    pub(super) fn fetch(&self, names: &[String]) -> Result<Vec<PathBuf>, Error> {
        match self {
            Self::File(path) => Ok(vec![path.clone()]),
            Self::Folder { path, .. } => Ok(names.iter().map(|name| path.join(name)).collect()),
            Self::Hub(repo) => Ok(names.iter().map(|name| repo.fetch(name)).collect::<Result<_, _>>()?),
        }
    }

    fn declared(&self, config: &DatasetConfig) -> Result<Option<DeclaredConfig>, Error> {
        let readme = match self {
            Self::File(_) => None,
            Self::Folder { path, .. } => Some(path.join("README.md")).filter(|path| path.is_file()),
            Self::Hub(repo) if repo.files().iter().any(|name| name == "README.md") => Some(repo.fetch("README.md")?),
            Self::Hub(_) => None,
        };
        let readme = match readme {
            Some(path) => {
                String::from_utf8_lossy(&fs::read(&path).map_err(|source| Error::io(path, source))?).into_owned()
            }
            None => String::new(),
        };
        card::declared_config(&readme, config.dataset_config.as_deref())
    }
}

/// Names of all files below a folder, relative to it. Links are followed, hidden files left out.
/// `above` holds the folders on the way, since a link back to one of them would have no end.
fn list(folder: &Path, prefix: &str, above: &mut Vec<PathBuf>, names: &mut Vec<String>) -> Result<(), Error> {
    let place = folder.canonicalize().map_err(|source| Error::io(folder, source))?;
    if above.contains(&place) {
        return Ok(());
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

fn describe(names: &[String]) -> String {
    let has = |extension: &str| names.iter().any(|name| name.ends_with(extension));
    if names.is_empty() {
        return "it is empty".to_owned();
    }
    if has(".arrow") {
        return "Arrow files, as `save_to_disk` writes them; write the rows with `to_parquet` or `to_json`".to_owned();
    }
    if has(".py") {
        return "a loading script, which is not run; try --dataset_revision refs/convert/parquet".to_owned();
    }
    let mut named = names.iter().take(NUM_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NUM_NAMED {
        named.push_str(&format!(" and {} more", names.len() - NUM_NAMED));
    }
    named
}
