//! Datasets of the hub, as sft-data reads them.

use super::{Hub, HubRepo, RepoKind, is_repo_id};
use sft_data::{BoxError, OpenRepository, Repository};
use std::path::PathBuf;

impl Repository for HubRepo<'_> {
    fn files(&self) -> &[String] {
        HubRepo::files(self)
    }

    fn is_partial(&self) -> bool {
        self.cache_only().is_some()
    }

    fn fetch(&self, name: &str) -> Result<PathBuf, BoxError> {
        Ok(HubRepo::fetch(self, name)?)
    }
}

impl OpenRepository for Hub {
    fn open(&self, name: &str, revision: &str) -> Result<Option<Box<dyn Repository + '_>>, BoxError> {
        if !is_repo_id(name) {
            return Ok(None);
        }
        Ok(Some(Box::new(Hub::open(self, RepoKind::Dataset, name, revision)?)))
    }
}
