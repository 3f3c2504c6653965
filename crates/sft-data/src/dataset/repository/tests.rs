use super::*;
use crate::testing::message;
use crate::{DatasetConfig, Error, Evaluation, Splits, load_splits};
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

/// A hub with one dataset, `org/data`, which records what is fetched.
struct Hub {
    folder: tempfile::TempDir,
    files: Vec<String>,
    fetched: Rc<RefCell<Vec<String>>>,
}

struct Opened {
    folder: PathBuf,
    files: Vec<String>,
    fetched: Rc<RefCell<Vec<String>>>,
}

impl Hub {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let files = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { folder, files, fetched: Rc::default() }
    }

    fn load(&self, name: &str, change: impl FnOnce(&mut DatasetConfig)) -> Result<Splits, Error> {
        let mut config = DatasetConfig { dataset_name: name.to_owned(), ..DatasetConfig::default() };
        change(&mut config);
        load_splits(&config, self)
    }

    fn take_fetched(&self) -> Vec<String> {
        self.fetched.take()
    }
}

impl OpenRepository for Hub {
    fn open(&self, name: &str, revision: &str) -> Result<Option<Box<dyn Repository + '_>>, BoxError> {
        match name {
            "org/data" if revision == "main" => Ok(Some(Box::new(Opened {
                folder: self.folder.path().to_owned(),
                files: self.files.clone(),
                fetched: self.fetched.clone(),
            }))),
            name if name.contains(' ') => Ok(None),
            _ => Err(format!("{name} at {revision} does not exist").into()),
        }
    }
}

impl std::fmt::Display for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("org/data@12345678")
    }
}

impl Repository for Opened {
    fn files(&self) -> &[String] {
        &self.files
    }

    fn fetch(&self, name: &str) -> Result<PathBuf, BoxError> {
        self.fetched.borrow_mut().push(name.to_owned());
        let path = self.folder.join(name);
        if path.exists() { Ok(path) } else { Err(format!("{name} was interrupted").into()) }
    }
}

const ROW: &str = "{\"text\":\"a\"}\n";

#[test]
fn only_the_splits_in_use_are_fetched() {
    let hub = Hub::with(&[("train.jsonl", ROW), ("test.jsonl", ROW), ("validation.jsonl", ROW), ("big.bin", "x")]);
    let splits = hub.load("org/data", |_| ()).unwrap();
    assert_eq!((splits.train.len(), splits.eval_name.as_deref()), (1, Some("test")));
    assert_eq!(splits.source, "org/data@12345678, texts in column `text`");
    assert_eq!(hub.take_fetched(), ["train.jsonl", "test.jsonl"]);
    hub.load("org/data", |config| config.evaluation = Evaluation::Off).unwrap();
    assert_eq!(hub.take_fetched(), ["train.jsonl"]);
}

#[test]
fn the_card_is_fetched_first_and_decides() {
    let card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: part-*\n---\n";
    let hub = Hub::with(&[("README.md", card), ("part-1.jsonl", ROW), ("other.jsonl", ROW)]);
    let splits = hub.load("org/data", |config| config.evaluation = Evaluation::Optional).unwrap();
    assert_eq!(splits.train.len(), 1);
    assert_eq!(hub.take_fetched(), ["README.md", "part-1.jsonl"]);
}

#[test]
fn errors_of_the_hub_are_passed_on() {
    let mut hub = Hub::with(&[("train.jsonl", ROW)]);
    let message_of = |hub: &Hub, name: &str| message(&hub.load(name, |_| ()).unwrap_err());
    assert_eq!(message_of(&hub, "org/none"), "org/none at main does not exist");
    let error = hub.load("org/data", |config| config.dataset_revision = "v2".to_owned()).unwrap_err();
    assert_eq!(message(&error), "org/data at v2 does not exist");
    // A name that no repository can have, and a file that is missing.
    assert!(message_of(&hub, "no name").starts_with("dataset \"no name\" not found"));
    assert!(message_of(&hub, "org/data.jsonl").starts_with("dataset \"org/data.jsonl\" not found"));
    hub.files = vec!["train.parquet".to_owned(), "test.parquet".to_owned()];
    assert_eq!(message_of(&hub, "org/data"), "train.parquet was interrupted");
}
