use super::*;
use crate::testing::{golden, message};
use crate::{LocalFiles, load_splits};
use serde_json::json;
use std::fs;

/// Files of so many rows each: `0,0`, `0,1`, …, `1,0`, ….
struct Files(tempfile::TempDir);

impl Files {
    fn with(lengths: &[usize]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (source, length) in lengths.iter().enumerate() {
            let rows: String = (0..*length).map(|row| format!("{{\"text\":\"{source},{row}\"}}\n")).collect();
            fs::write(folder.path(source), rows).unwrap();
        }
        folder
    }

    fn path(&self, source: usize) -> std::path::PathBuf {
        self.0.path().join(format!("{source}.jsonl"))
    }

    fn config(&self, sources: usize) -> DatasetConfig {
        let datasets: Vec<Value> = (0..sources).map(|source| json!({"path": self.path(source)})).collect();
        DatasetConfig {
            datasets: serde_json::from_value(json!(datasets)).unwrap(),
            evaluation: Evaluation::Off,
            ..DatasetConfig::default()
        }
    }

    fn load(&self, config: &DatasetConfig) -> Result<Splits, String> {
        let folder = format!("{}/", self.0.path().display());
        load_splits(config, &LocalFiles).map_err(|error| message(&error).replace(&folder, ""))
    }
}

fn texts(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| if let Row::Text(text) = row { text.as_str() } else { panic!("{row:?}") }).collect()
}

#[test]
fn rows_are_those_of_interleave_datasets() {
    let cases = golden("sources.json")["interleaved"].clone();
    for case in cases.as_array().unwrap() {
        let lengths: Vec<usize> = serde_json::from_value(case["lengths"].clone()).unwrap();
        let probabilities: Option<Vec<f64>> = serde_json::from_value(case["probabilities"].clone()).unwrap();
        let order = Order {
            strategy: serde_json::from_value(case["strategy"].clone()).unwrap(),
            probabilities: probabilities.as_deref(),
            seed: case["seed"].as_u64().unwrap(),
        };
        let order = order.of(&lengths).unwrap();
        if let Some(expected) = case.get("order") {
            assert_eq!(json!(order), *expected, "{case}");
        } else {
            let weighted = |(index, (source, row)): (usize, &(usize, usize))| (index + 1) * (source * 1000 + row);
            let checksum: usize = order.iter().enumerate().map(weighted).sum();
            assert_eq!(
                (json!(order.len()), json!(checksum)),
                (case["rows"].clone(), case["checksum"].clone()),
                "{case}"
            );
        }
    }
}

#[test]
fn fractions_take_as_many_rows_as_in_trl() {
    for case in golden("sources.json")["fractions"].as_array().unwrap() {
        let lengths: Vec<usize> = serde_json::from_value(case["lengths"].clone()).unwrap();
        let files = Files::with(&lengths);
        let mut config = files.config(lengths.len());
        for (source, fraction) in config.datasets.iter_mut().zip(case["fractions"].as_array().unwrap()) {
            source.fraction = fraction.as_f64();
        }
        let taken: Vec<usize> = serde_json::from_value(case["taken"].clone()).unwrap();
        let expected: Vec<String> = taken
            .iter()
            .enumerate()
            .flat_map(|(source, rows)| (0..*rows).map(move |row| format!("{source},{row}")))
            .collect();
        assert_eq!(texts(&files.load(&config).unwrap().train), expected, "{case}");
    }
}

#[test]
fn a_mixture_is_the_same_each_time_and_rows_are_set_aside_of_it() {
    let files = Files::with(&[5, 20]);
    let config = DatasetConfig {
        mix_strategy: MixStrategy::InterleaveOver,
        interleave_probs: Some(vec![0.5, 0.5]),
        test_size: Some(4.0),
        evaluation: Evaluation::Required,
        ..files.config(2)
    };
    let splits = files.load(&config).unwrap();
    assert_eq!(files.load(&config).unwrap(), splits, "so a run can be resumed");
    assert_ne!(files.load(&DatasetConfig { seed: 1, ..config.clone() }).unwrap().train, splits.train);
    let (train, eval) = (texts(&splits.train), splits.eval.as_deref().map(texts).unwrap());
    assert_eq!(eval.len(), 4);
    assert!(train.len() > 25 && (0..20).all(|row| train.iter().chain(&eval).any(|text| *text == format!("1,{row}"))));
    assert_eq!(splits.train_numbers.unwrap().len(), train.len());
    assert!(splits.source.starts_with("mixture of ") && splits.source.contains("1.jsonl, texts in column `text`"));
    let first = files.load(&DatasetConfig { max_train_samples: Some(3), ..config.clone() }).unwrap();
    assert_eq!(texts(&first.train), train[..3]);
    let error = files.load(&DatasetConfig { test_size: None, ..config.clone() }).unwrap_err();
    assert!(error.contains("set `test_size`"), "{error}");
    // Rows that come several times need their memory.
    let small = DatasetConfig { max_dataset_memory: Some(crate::ByteSize(25 * 320)), ..config };
    let error = files.load(&small).unwrap_err();
    assert!(error.starts_with("the mixture: up to its row"), "{error}");
}

#[test]
fn datasets_of_different_kinds_and_columns_mix() {
    let files = Files::with(&[1]);
    fs::write(files.path(1), "{\"prompt\":\"p\",\"completion\":\"c\",\"text\":\"t\"}\n").unwrap();
    let mut config = files.config(2);
    let rows = files.load(&config).unwrap().train;
    assert!(matches!(&rows[..], [Row::Text(_), Row::PromptCompletion(_)]), "{rows:?}");
    config.datasets[1].columns = Some(vec!["text".to_owned()]);
    let splits = files.load(&config).unwrap();
    assert_eq!((texts(&splits.train), splits.unused_columns), (vec!["0,0", "t"], Vec::<String>::new()));
    config.datasets[1].columns = Some(vec!["text".to_owned(), "none".to_owned()]);
    let error = files.load(&config).unwrap_err();
    assert!(error.starts_with("1.jsonl: no column `none`"), "{error}");
}

#[test]
fn what_cannot_be_mixed_is_refused() {
    let files = Files::with(&[2, 3, 0]);
    type Change<'a> = &'a dyn Fn(&mut DatasetConfig);
    let cases: [(Change<'_>, &str); 12] = [
        (
            &|config| config.datasets[0].fraction = Some(1.0),
            "datasets = 1 of 2 fractions: give all datasets a `fraction`",
        ),
        (
            &|config| config.datasets.iter_mut().for_each(|source| source.fraction = Some(0.0)),
            "datasets = fractions [0.0, 0.0]",
        ),
        (
            &|config| {
                config.datasets.iter_mut().for_each(|source| source.fraction = Some(1.0));
                config.mix_strategy = MixStrategy::InterleaveOver;
            },
            "mix_strategy = interleave_over: leave out the `fraction`",
        ),
        (
            &|config| config.interleave_probs = Some(vec![0.5, 0.5]),
            "interleave_probs = [0.5, 0.5]: has no meaning with mix_strategy concat",
        ),
        (
            &|config| (config.mix_strategy, config.interleave_probs) = (MixStrategy::InterleaveUnder, Some(vec![1.0])),
            "interleave_probs = [1.0]: give 2 numbers",
        ),
        (
            &|config| {
                (config.mix_strategy, config.interleave_probs) = (MixStrategy::InterleaveUnder, Some(vec![0.5, 0.6]))
            },
            "interleave_probs = [0.5, 0.6]: use numbers of 0 or more that sum to 1",
        ),
        (
            &|config| {
                (config.mix_strategy, config.interleave_probs) = (MixStrategy::InterleaveOver, Some(vec![1.0, 0.0]))
            },
            "interleave_probs = [1.0, 0.0]: a dataset of probability 0",
        ),
        (&|config| config.datasets[0].path.clear(), "datasets = number 1: give its `path`"),
        (
            &|config| config.dataset_test_split = Some("dev".to_owned()),
            "dataset_test_split = dev: has no meaning with `datasets`",
        ),
        (&|config| config.data_dir = Some("a".to_owned()), "data_dir = set: has no meaning with `datasets`"),
        (&|config| config.datasets[1].split = "test".to_owned(), "1.jsonl: no split `test`"),
        (
            &|config| {
                config.datasets[1].path = config.datasets[1].path.replace("1.jsonl", "2.jsonl");
            },
            "2.jsonl, split `train`: empty",
        ),
    ];
    for (change, expected) in cases {
        let mut config = files.config(2);
        change(&mut config);
        let error = files.load(&config).unwrap_err();
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
    let alone = DatasetConfig {
        dataset_name: "a".into(),
        mix_strategy: MixStrategy::InterleaveOver,
        ..DatasetConfig::default()
    };
    assert!(message(&alone.validate().unwrap_err()).contains("name the datasets to mix with `datasets`"));
}

#[test]
fn options_are_read_from_files_and_from_flags() {
    let read = |options: Value| serde_json::from_value::<DatasetConfig>(options).map_err(|error| error.to_string());
    let list = json!([{"path": "a", "columns": ["text"], "fraction": 1}, {"path": "b", "data_files": "*.json"}]);
    let config = read(json!({"datasets": list, "interleave_probs": "0.7, 0.3"})).unwrap();
    assert_eq!(read(json!({"datasets": list.to_string(), "interleave_probs": [0.7, 0.3]})).unwrap(), config);
    assert_eq!((config.datasets[1].split.as_str(), config.interleave_probs.clone()), ("train", Some(vec![0.7, 0.3])));
    // As a checkpoint writes them.
    assert_eq!(read(serde_json::to_value(&config).unwrap()).unwrap(), config);
    for (options, expected) in [
        (json!({"datasets": [{"path": "a", "weight": 1}]}), "dataset 1: unknown field `weight`"),
        (json!({"datasets": {"path": "a"}}), "not a list of datasets"),
        (json!({"datasets": [{"name": "a"}]}), "dataset 1: missing field `path`"),
        (json!({"interleave_probs": "a,b"}), "not a list of probabilities"),
    ] {
        let error = read(options).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
