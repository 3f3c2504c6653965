mod environment;
mod pushes;
mod server;
mod transfers;

use super::*;
use server::{Failure, Server, commit_of, sha256};
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct World {
    server: Server,
    cache: tempfile::TempDir,
}

impl World {
    /// A hub with one model.
    fn new() -> Self {
        let server = Server::start();
        server.add("models", "org/tiny", "config.json", "{}");
        server.add("models", "org/tiny", "model.safetensors", weights());
        server.add("models", "org/tiny", "sub folder/deep/vocab.txt", "a\nb\n");
        Self { server, cache: tempfile::tempdir().unwrap() }
    }

    fn hub(&self) -> Hub {
        let cache = self.cache.path().to_string_lossy().into_owned();
        let mut hub = Hub::from_variables(&|name| match name {
            "HF_ENDPOINT" => Some(self.server.address.clone()),
            "HF_HUB_CACHE" => Some(cache.clone()),
            _ => None,
        })
        .unwrap();
        hub.settings.num_retries = 3;
        hub.settings.retry_delay = Duration::from_millis(1);
        hub
    }

    fn repo_folder(&self) -> PathBuf {
        self.cache.path().join("models--org--tiny")
    }

    fn get(&self, wanted: &str) -> Result<PathBuf, String> {
        self.get_with(&self.hub(), "org/tiny", "main", wanted)
    }

    fn get_with(&self, hub: &Hub, repo: &str, revision: &str, wanted: &str) -> Result<PathBuf, String> {
        hub.snapshot(RepoKind::Model, repo, revision, &|name| name.contains(wanted)).map_err(|error| message(&error))
    }
}

/// The log of what `run` does on this thread.
pub(super) fn log_of(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, run);
    let text = log.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

/// An error with its causes.
fn message(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    assert!(!text.contains('\n'), "an error is one line, not {text:?}");
    text
}

fn weights() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn weights_path() -> String {
    format!("/org/tiny/resolve/{}/model.safetensors", commit_of("org/tiny"))
}

#[test]
fn files_land_in_the_official_layout() {
    let world = World::new();
    let folder = world.get("").unwrap();
    let commit = commit_of("org/tiny");
    let root = world.repo_folder();
    assert_eq!(folder, root.join("snapshots").join(&commit));
    assert_eq!(fs::read_to_string(root.join("refs/main")).unwrap(), commit);
    for (name, content) in [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", weights()),
        ("sub folder/deep/vocab.txt", b"a\nb\n".to_vec()),
    ] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), content, "{name}");
        assert_eq!(fs::read(root.join("blobs").join(sha256(&content))).unwrap(), content, "{name}");
    }
    #[cfg(unix)]
    {
        let link = fs::read_link(folder.join("sub folder/deep/vocab.txt")).unwrap();
        assert_eq!(link, Path::new("../../../../blobs").join(sha256(b"a\nb\n")));
        assert_eq!(fs::read_link(folder.join("config.json")).unwrap(), Path::new("../../blobs").join(sha256(b"{}")));
    }
    assert_eq!(fs::read_dir(root.join("blobs")).unwrap().count(), 3, "nothing unfinished is left");
}

#[test]
fn only_what_is_wanted_is_fetched_and_only_once() {
    let world = World::new();
    world.get("config").unwrap();
    let path = weights_path().replace("model.safetensors", "config.json");
    let list = "GET /api/models/org/tiny/revision/main".to_owned();
    assert_eq!(
        world.server.take_requests(),
        [list.clone(), format!("HEAD {path}"), format!("HEAD {path}"), format!("GET {path}")]
    );
    world.get("config").unwrap();
    assert_eq!(world.server.take_requests(), [list], "a cache hit asks for the list alone");
}

#[test]
fn a_blob_that_is_there_is_linked_not_fetched() {
    let world = World::new();
    world.get("model").unwrap();
    fs::remove_dir_all(world.repo_folder().join("snapshots")).unwrap();
    world.server.take_requests();
    let folder = world.get("model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert!(!world.server.take_requests().contains(&format!("GET {}", weights_path())));
}

#[test]
fn offline_the_cache_is_all_there_is() {
    let world = World::new();
    let mut hub = world.hub();
    hub.settings.is_offline = true;
    let error = world.get_with(&hub, "org/tiny", "main", "").unwrap_err();
    assert!(error.starts_with("org/tiny at main is not in the cache"), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE is set"), "{error}");
    assert!(world.server.take_requests().is_empty());

    let online = world.get("config").unwrap();
    world.server.take_requests();
    assert_eq!(world.get_with(&hub, "org/tiny", "main", "config").unwrap(), online);
    assert_eq!(world.get_with(&hub, "org/tiny", &commit_of("org/tiny"), "config").unwrap(), online);
    assert!(world.get_with(&hub, "org/tiny", "main", "safetensors").unwrap_err().contains("not in the cache"));
    assert!(world.get_with(&hub, "org/tiny", "v2", "config").unwrap_err().contains("org/tiny at v2"));
    assert!(world.server.take_requests().is_empty(), "no request is sent");
}

#[test]
fn out_of_reach_the_cache_stands_in() {
    let world = World::new();
    let online = world.get("config").unwrap();
    let mut hub = world.hub();
    // A port that nothing listens on.
    hub.settings.endpoint = "http://127.0.0.1:9".parse().unwrap();
    let log = log_of(|| assert_eq!(world.get_with(&hub, "org/tiny", "main", "config").unwrap(), online));
    assert!(log.contains("WARN") && log.contains("refused") && log.contains(&commit_of("org/tiny")), "{log}");
    assert_eq!(
        world.get_with(&hub, "org/tiny", "main", "safetensors").unwrap_err(),
        format!(
            "org/tiny at main is not in the cache {} and the hub cannot be reached: check the network, or set \
             HF_ENDPOINT to a mirror",
            world.cache.path().display()
        )
    );
    let error = world.get_with(&hub, "org/other", "main", "").unwrap_err();
    assert!(error.starts_with("http://127.0.0.1:9/api/models/org/other/revision/main cannot be reached"), "{error}");
    assert!(error.contains("HF_ENDPOINT") && error.contains("refused"), "{error}");
}

#[test]
fn a_part_of_a_model_is_not_the_whole() {
    let world = World::new();
    let shard = |number: u32| format!("model-0000{number}-of-00003.safetensors");
    let map: String = (1..=3).map(|number| format!("\"w{number}\":\"{}\",", shard(number))).collect();
    let index = format!("{{\"weight_map\":{{{}}}}}", map.trim_end_matches(','));
    for name in [shard(1), shard(2), shard(3)] {
        world.server.add("models", "org/large", &name, "w");
    }
    world.server.add("models", "org/large", "model.safetensors.index.json", index);
    world.server.add("models", "org/large", "config.json", "{}");
    let mut offline = world.hub();
    offline.settings.is_offline = true;
    let error = || message(&offline.model_dir("org/large", "main").unwrap_err());
    let mut expected = "org/large at main: 2 of 3 files with weights are not in the cache \
         (model-00002-of-00003.safetensors, model-00003-of-00003.safetensors) and HF_HUB_OFFLINE is set"
        .to_owned();
    // The name of a shard is enough, and so is the index.
    world.get_with(&world.hub(), "org/large", "main", "00001").unwrap();
    assert!(error().starts_with(&expected), "{}", error());
    world.get_with(&world.hub(), "org/large", "main", "index").unwrap();
    assert!(error().starts_with(&expected), "{}", error());
    let mut unreachable = world.hub();
    unreachable.settings.endpoint = "http://127.0.0.1:9".parse().unwrap();
    expected = expected.replace("HF_HUB_OFFLINE is set", "the hub cannot be reached");
    let log = log_of(|| {
        let error = message(&unreachable.model_dir("org/large", "main").unwrap_err());
        assert!(error.starts_with(&expected), "{error}");
    });
    assert!(log.contains("WARN") && log.contains("from the cache"), "{log}");

    let folder = world.hub().model_dir("org/large", "main").unwrap();
    assert_eq!(offline.model_dir("org/large", "main").unwrap(), folder);
    // An interrupted clean-up can leave a link without its content.
    fs::remove_file(folder.join("config.json").canonicalize().unwrap()).unwrap();
    assert!(error().starts_with("org/large: config.json at main is not in the cached snapshot"), "{}", error());
}

#[test]
fn a_part_of_a_dataset_is_not_the_whole() {
    let world = World::new();
    for number in 0..3 {
        let name = format!("train-0000{number}-of-00003.jsonl");
        world.server.add("datasets", "org/data", &name, "{\"text\":\"a\"}\n");
    }
    let config = sft_data::DatasetConfig {
        dataset_name: "org/data".to_owned(),
        evaluation: sft_data::Evaluation::Off,
        ..Default::default()
    };
    let hub = world.hub();
    hub.open(RepoKind::Dataset, "org/data", "main").unwrap().fetch("train-00000-of-00003.jsonl").unwrap();
    let mut unreachable = world.hub();
    unreachable.settings.endpoint = "http://127.0.0.1:9".parse().unwrap();
    let log = log_of(|| {
        let error = message(&sft_data::load_splits(&config, &unreachable).unwrap_err());
        assert!(error.contains("2 of 3 files train-*-of-00003.jsonl missing (00001, 00002)"), "{error}");
    });
    assert!(log.contains("WARN") && log.contains("from the cache"), "{log}");
    assert_eq!(sft_data::load_splits(&config, &hub).unwrap().train.len(), 3);
    assert_eq!(sft_data::load_splits(&config, &unreachable).unwrap().train.len(), 3);
}

#[test]
fn a_refusal_says_what_to_do() {
    let world = World::new();
    let list = "/api/models/org/tiny/revision/main";
    let refuse = |status: u16, headers: &'static [(&str, &str)], hub: &Hub| {
        world.server.fail(list, Failure::Status(status, headers));
        world.get_with(hub, "org/tiny", "main", "").unwrap_err()
    };
    let (without, mut with) = (world.hub(), world.hub());
    with.settings.token = Some("hf_secret".to_owned());
    assert!(refuse(401, &[], &without).contains("set HF_TOKEN"));
    let error = refuse(401, &[], &with);
    assert!(error.contains("the token in HF_TOKEN is not valid") && !error.contains("hf_secret"), "{error}");
    assert!(
        refuse(403, &[("x-error-code", "GatedRepo")], &with)
            .contains(&format!("accept its terms at {}/org/tiny", with.settings.endpoint()))
    );
    assert!(refuse(403, &[], &with).contains("status 403"));
    assert!(
        refuse(404, &[], &without).starts_with(&format!("org/tiny does not exist at {}", without.settings.endpoint()))
    );
    assert!(refuse(418, &[("x-error-message", "I am a teapot")], &without).ends_with("status 418: I am a teapot"));
    assert!(refuse(418, &[], &without).ends_with("status 418: no"));
    assert!(!format!("{with:?}").contains("hf_secret"));
    assert!(!world.repo_folder().exists(), "a refusal leaves nothing behind");
}

#[test]
fn what_is_not_there_is_named() {
    let world = World::new();
    let hub = world.hub();
    assert!(world.get_with(&hub, "org/none", "main", "").unwrap_err().starts_with("org/none does not exist at"));
    assert_eq!(world.get_with(&hub, "org/tiny", "v9", "").unwrap_err(), "org/tiny has no revision \"v9\" (status 404)");
    assert!(
        world.get(".gguf").unwrap_err().starts_with("org/tiny has no file of the kind looked for at revision main")
    );
    for name in ["", "a/b/c", "../x", "a/..", "-a/b", "a b", "a/", "中/文", "a--b"] {
        let error = world.get_with(&hub, name, "main", "").unwrap_err();
        assert!(error.contains("is not the name of a hub repository"), "{name}: {error}");
    }
    assert!(world.server.take_requests().iter().all(|request| !request.contains("..")));
}

#[test]
fn datasets_have_their_own_addresses_and_folders() {
    let world = World::new();
    for (name, content) in
        [("train.jsonl", "{\"text\":\"a\"}\n"), ("test.jsonl", "{\"text\":\"b\"}\n"), ("big.bin", "x")]
    {
        world.server.add("datasets", "org/data", name, content);
    }
    let hub = world.hub();
    let repo = hub.open(RepoKind::Dataset, "org/data", "main").unwrap();
    assert_eq!(repo.files(), ["train.jsonl", "test.jsonl", "big.bin"]);
    assert_eq!(repo.commit(), commit_of("org/data"));
    assert_eq!(repo.to_string(), format!("org/data@{}", &commit_of("org/data")[..8]));
    let path = repo.fetch("train.jsonl").unwrap();
    assert_eq!(path, repo.folder().join("train.jsonl"));
    assert_eq!(fs::read_to_string(path).unwrap(), "{\"text\":\"a\"}\n");
    assert!(world.cache.path().join("datasets--org--data/refs/main").is_file());
    let fetched = world.server.take_requests().into_iter().filter(|request| request.starts_with("GET /datasets/"));
    assert_eq!(fetched.count(), 1, "files that are not asked for are not fetched");
    world.server.fail("/api/datasets/org/data/revision/main", Failure::Status(403, &[("x-error-code", "GatedRepo")]));
    let error = message(&hub.open(RepoKind::Dataset, "org/data", "main").unwrap_err());
    assert!(error.contains(&format!("{}/datasets/org/data and set HF_TOKEN", hub.settings.endpoint())), "{error}");

    let error = message(&repo.fetch("none.jsonl").unwrap_err());
    assert_eq!(error, "org/data has no file none.jsonl at revision main");
    let error = message(&hub.open(RepoKind::Dataset, "org/none", "main").unwrap_err());
    assert!(error.starts_with("org/none does not exist"), "{error}");
    let mut offline = world.hub();
    offline.settings.is_offline = true;
    let repo = offline.open(RepoKind::Dataset, "org/data", "main").unwrap();
    assert_eq!(repo.files(), ["train.jsonl"]);
    let error = message(&repo.fetch("test.jsonl").unwrap_err());
    assert!(
        error.contains("test.jsonl at main is not in the cached snapshot") && error.contains("HF_HUB_OFFLINE"),
        "{error}"
    );
}

#[test]
fn a_model_is_a_folder_or_a_repository() {
    let world = World::new();
    world.server.add("models", "org/tiny", "pytorch_model.bin", "x");
    let hub = world.hub();
    let local = world.cache.path().to_string_lossy().into_owned();
    assert_eq!(hub.model_dir(&local, "main").unwrap(), world.cache.path());
    let file = format!("{local}/file");
    fs::write(&file, "").unwrap();
    let error = message(&hub.model_dir(&file, "main").unwrap_err());
    assert_eq!(error, format!("model {file} is a file: give the folder that holds config.json"));
    let error = message(&hub.model_dir("./none", "main").unwrap_err());
    assert!(error.starts_with("model ./none: there is no such folder"), "{error}");
    assert!(world.server.take_requests().is_empty());

    let folder = hub.model_dir("org/tiny", "main").unwrap();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["config.json", "model.safetensors"]);
}

#[test]
fn repo_ids_and_paths_are_told_apart() {
    for name in ["gpt2", "Qwen/Qwen1.5-0.5B-Chat", "a_b/c.d"] {
        assert!(is_repo_id(name), "{name}");
    }
    for name in ["/data/model", "./model", "../model", "a/b/c", "a b", "", "owner/", "a--b", "a/b.", "a..b"] {
        assert!(!is_repo_id(name), "{name}");
    }
}

#[test]
fn only_what_is_loaded_is_fetched() {
    for file in
        ["config.json", "model-00001-of-00002.safetensors", "tokenizer.json", "chat_template.jinja", "merges.txt"]
    {
        assert!(is_model_file(file), "{file}");
    }
    for file in ["pytorch_model.bin", "onnx/model.safetensors", "README.md", "model.gguf"] {
        assert!(!is_model_file(file), "{file}");
    }
}

#[test]
fn certificates_that_are_none_are_told() {
    let world = World::new();
    let mut hub = world.hub();
    hub.settings.ca_bundle = Some(world.cache.path().join("none.pem"));
    let error = world.get_with(&hub, "org/tiny", "main", "").unwrap_err();
    assert!(error.contains("none.pem: cannot be read as certificates"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let world = World::new();
    let mut hub = world.hub();
    let file = world.cache.path().join("file");
    fs::write(&file, "").unwrap();
    hub.settings.cache_dir = file;
    let error = world.get_with(&hub, "org/tiny", "main", "").unwrap_err();
    assert!(error.starts_with("cache ") && error.contains("HF_HOME"), "{error}");
}
