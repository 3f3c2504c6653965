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
fn model_and_tokenizer_are_published_and_nothing_else() {
    let (checkpoint, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(checkpoint.path(), &SHARDED);
    write_manifest(checkpoint.path(), 1);
    let stale = [("model.safetensors", "a"), ("model-00003-of-00003.safetensors", "b"), ("config.json", "old")];
    write(output.path(), &stale);
    write(output.path(), &[("metrics.jsonl", "kept"), ("trainer_state.json", "kept")]);

    let published =
        publish(checkpoint.path(), output.path(), Publication { not_published: &["my_state"], model_files: &[] })
            .unwrap();
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
    let order: Vec<_> = published[2..].iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let expected = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "config.json",
        "model.safetensors.index.json",
    ];
    assert_eq!(order, expected);
}

const MODEL_FILES: &[&str] = &["generation_config.json", "tokenizer.json", "vocab.txt", "templates/*.jinja"];

#[test]
fn files_of_an_earlier_model_are_removed_and_nothing_else() {
    let (checkpoint, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let new =
        [("config.json", "{}"), ("model.safetensors", "w"), ("tokenizer.json", "{}"), ("templates/a.jinja", "new")];
    write(checkpoint.path(), &new);
    write_manifest(checkpoint.path(), 1);
    // A file that the manifest does not list.
    write(checkpoint.path(), &[("notes.txt", "mine")]);
    let earlier = [
        ("generation_config.json", "{}"),
        ("vocab.txt", "a"),
        ("templates/a.jinja", "old"),
        ("templates/b.jinja", "old"),
        (".vocab.txt.partial", "a"),
        (".model-00001-of-00002.safetensors.partial", "one"),
    ];
    write(output.path(), &earlier);
    let others = [
        ("vocab.txt.bak", "kept"),
        ("templates/notes.md", "kept"),
        ("vocab.txt.d/x", "kept"),
        ("model-card-of-mine.md", "kept"),
        ("sub/vocab.txt", "kept"),
        ("adapter_model.safetensors", "kept"),
        (".other.partial", "kept"),
    ];
    write(output.path(), &others);
    let publication = Publication { not_published: &[], model_files: MODEL_FILES };
    publish(checkpoint.path(), output.path(), publication).unwrap();
    let mut expected: Vec<&str> = new.iter().chain(&others).map(|(name, _)| *name).collect();
    expected.sort_unstable_by_key(|name| Path::new(*name));
    assert_eq!(names(output.path()), expected);
    assert_eq!(fs::read_to_string(output.path().join("templates/a.jinja")).unwrap(), "new");
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_a_link_is_not_emptied() {
    let (checkpoint, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    write(checkpoint.path(), &[("model.safetensors", "w")]);
    write_manifest(checkpoint.path(), 1);
    write(elsewhere.path(), &[("mine.jinja", "kept")]);
    std::os::unix::fs::symlink(elsewhere.path(), output.path().join("templates")).unwrap();
    publish(checkpoint.path(), output.path(), Publication { not_published: &[], model_files: MODEL_FILES }).unwrap();
    assert_eq!(names(elsewhere.path()), ["mine.jinja"]);
}

#[test]
fn a_star_matches_anything() {
    for (name, pattern) in
        [("a.b", "a.b"), ("a.b", "a*"), ("a.b", "*b"), ("a.b", "a*.*b"), ("", "*"), ("aXbXc", "a*b*c")]
    {
        assert!(matches_pattern(name, pattern), "{name} {pattern}");
    }
    for (name, pattern) in
        [("a.b", "a"), ("ab", "a.b"), ("a.b", "b*"), ("a", "a*a"), ("model-1.safetensors", SHARD_PATTERN)]
    {
        assert!(!matches_pattern(name, pattern), "{name} {pattern}");
    }
}

#[test]
fn a_damaged_checkpoint_is_not_published_over_a_good_model() {
    let (checkpoint, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(checkpoint.path(), &[("model.safetensors", "weights")]);
    write_manifest(checkpoint.path(), 1);
    write(checkpoint.path(), &[("model.safetensors", "weightz")]);
    write(output.path(), &[("model.safetensors", "good")]);
    let message = publish(checkpoint.path(), output.path(), Publication::default()).unwrap_err().to_string();
    assert!(message.contains("model.safetensors is not what was saved"), "{message}");
    assert_eq!(names(output.path()), ["model.safetensors"]);
    assert_eq!(fs::read_to_string(output.path().join("model.safetensors")).unwrap(), "good");
}
