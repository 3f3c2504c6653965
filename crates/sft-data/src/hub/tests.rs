mod server;
mod transfers;

use super::*;
use crate::testing::message;
use crate::{DatasetConfig, load_splits};
use server::{Failure, Server, commit_of, sha256};
use std::fs;
use std::path::Path;
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

    fn config(&self) -> HubConfig {
        HubConfig {
            endpoint: self.server.address.clone(),
            cache_dir: self.cache.path().to_owned(),
            num_retries: 3,
            retry_delay: Duration::from_millis(1),
            ..HubConfig::from_variables(&|_| None)
        }
    }

    fn repo_folder(&self) -> PathBuf {
        self.cache.path().join("models--org--tiny")
    }

    fn get(&self, wanted: &str) -> Result<PathBuf, String> {
        self.get_with(&self.config(), "org/tiny", "main", wanted)
    }

    fn get_with(&self, config: &HubConfig, repo: &str, revision: &str, wanted: &str) -> Result<PathBuf, String> {
        snapshot(config, RepoKind::Model, repo, revision, &|name| name.contains(wanted))
            .map_err(|error| message(&error))
    }
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
    assert_eq!(world.server.take_requests(), [list.clone(), format!("HEAD {path}"), format!("GET {path}")]);
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
    let mut config = world.config();
    config.offline = true;
    let error = world.get_with(&config, "org/tiny", "main", "").unwrap_err();
    assert!(error.starts_with("org/tiny at main is not in the cache"), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE is set"), "{error}");
    assert!(world.server.take_requests().is_empty());

    let online = world.get("config").unwrap();
    world.server.take_requests();
    assert_eq!(world.get_with(&config, "org/tiny", "main", "config").unwrap(), online);
    assert_eq!(world.get_with(&config, "org/tiny", &commit_of("org/tiny"), "config").unwrap(), online);
    assert!(world.get_with(&config, "org/tiny", "main", "safetensors").unwrap_err().contains("not in the cache"));
    assert!(world.get_with(&config, "org/tiny", "v2", "config").unwrap_err().contains("org/tiny at v2"));
    assert!(world.server.take_requests().is_empty(), "no request is sent");
}

#[test]
fn out_of_reach_the_cache_stands_in() {
    let world = World::new();
    let online = world.get("config").unwrap();
    let mut config = world.config();
    // A port that nothing listens on.
    config.endpoint = "http://127.0.0.1:9".to_owned();
    assert_eq!(world.get_with(&config, "org/tiny", "main", "config").unwrap(), online);
    let error = world.get_with(&config, "org/other", "main", "").unwrap_err();
    assert!(error.starts_with("http://127.0.0.1:9/api/models/org/other/revision/main cannot be reached"), "{error}");
    assert!(error.contains("HF_ENDPOINT") && error.contains("refused"), "{error}");
    config.endpoint = "not an address".to_owned();
    assert!(world.get_with(&config, "org/other", "main", "").unwrap_err().contains("cannot be reached"));
}

#[test]
fn a_refusal_says_what_to_do() {
    let world = World::new();
    let list = "/api/models/org/tiny/revision/main";
    let refuse = |status: u16, headers: &'static [(&str, &str)], config: &HubConfig| {
        world.server.fail(list, Failure::Status(status, headers));
        world.get_with(config, "org/tiny", "main", "").unwrap_err()
    };
    let (without, mut with) = (world.config(), world.config());
    with.token = Some("hf_secret".to_owned());
    assert!(refuse(401, &[], &without).contains("set HF_TOKEN"));
    let error = refuse(401, &[], &with);
    assert!(error.contains("the token in HF_TOKEN is not valid") && !error.contains("hf_secret"), "{error}");
    assert!(
        refuse(403, &[("x-error-code", "GatedRepo")], &with)
            .contains(&format!("accept its terms at {}/org/tiny", with.endpoint))
    );
    assert!(refuse(403, &[], &with).contains("status 403"));
    assert!(refuse(404, &[], &without).starts_with(&format!("org/tiny does not exist at {}", without.endpoint)));
    assert!(refuse(418, &[("x-error-message", "I am a teapot")], &without).ends_with("status 418: I am a teapot"));
    assert!(refuse(418, &[], &without).ends_with("status 418: {\"error\":\"no\"}"));
    assert!(!format!("{with:?}").contains("hf_secret"));
    assert!(!world.repo_folder().exists(), "a refusal leaves nothing behind");
}

#[test]
fn what_is_not_there_is_named() {
    let world = World::new();
    let config = world.config();
    assert!(world.get_with(&config, "org/none", "main", "").unwrap_err().starts_with("org/none does not exist at"));
    assert_eq!(
        world.get_with(&config, "org/tiny", "v9", "").unwrap_err(),
        "org/tiny has no revision \"v9\" (status 404)"
    );
    assert!(world.get(".gguf").unwrap_err().starts_with("org/tiny has no file of the kind looked for"));
    for name in ["", "a/b/c", "../x", "a/..", "-a/b", "a b", "a/", "中/文", "a--b"] {
        let error = world.get_with(&config, name, "main", "").unwrap_err();
        assert!(error.contains("is no hub repository"), "{name}: {error}");
    }
    assert!(world.server.take_requests().iter().all(|request| !request.contains("..")));
}

#[test]
fn datasets_are_read_from_the_hub() {
    let world = World::new();
    let row = |text: &str| format!("{{\"text\":\"{text}\"}}\n");
    for (name, content) in [
        ("train.jsonl", row("a")),
        ("test.jsonl", row("b")),
        ("validation.jsonl", row("c")),
        ("big.bin", "x".to_owned()),
    ] {
        world.server.add("datasets", "org/data", name, content);
    }
    let config = DatasetConfig { dataset_name: "org/data".to_owned(), ..DatasetConfig::default() };
    let splits = load_splits(&config, &world.config()).unwrap();
    assert_eq!((splits.train.len(), splits.eval_name.as_deref()), (1, Some("test")));
    assert!(splits.source.starts_with("org/data@"), "{}", splits.source);
    assert!(world.cache.path().join("datasets--org--data/refs/main").is_file());
    let fetched =
        world.server.take_requests().into_iter().filter(|request| request.starts_with("GET /datasets/")).count();
    assert_eq!(fetched, 2, "splits that are not used are not fetched");

    world.server.add(
        "datasets",
        "org/carded",
        "README.md",
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: part-*\n---\n",
    );
    world.server.add("datasets", "org/carded", "part-1.jsonl", row("a"));
    world.server.add("datasets", "org/carded", "other.jsonl", row("b"));
    let carded =
        DatasetConfig { dataset_name: "org/carded".to_owned(), evaluation: crate::Evaluation::Optional, ..config };
    assert_eq!(load_splits(&carded, &world.config()).unwrap().train.len(), 1);
    let mut offline = world.config();
    offline.offline = true;
    assert_eq!(load_splits(&carded, &offline).unwrap().train.len(), 1);
    let missing = DatasetConfig { dataset_name: "org/none".to_owned(), ..carded };
    assert!(message(&load_splits(&missing, &world.config()).unwrap_err()).starts_with("org/none does not exist"));
}

#[test]
fn the_environment_is_read_as_huggingface_hub_does() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_string_lossy().into_owned();
    let read = |variables: &[(&str, &str)]| {
        HubConfig::from_variables(&|name| {
            let set = variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            set.or_else(|| (name == "HOME").then(|| home.clone()))
        })
    };
    let config = read(&[]);
    assert_eq!(config.endpoint, "https://huggingface.co");
    assert_eq!(config.cache_dir, folder.path().join(".cache/huggingface/hub"));
    assert_eq!((config.token, config.offline), (None, false));

    let config = read(&[
        ("HF_ENDPOINT", "https://mirror/ "),
        ("HF_HOME", "~/hf"),
        ("HF_TOKEN", " t\n"),
        ("HF_HUB_OFFLINE", "1"),
    ]);
    assert_eq!((config.endpoint.as_str(), config.offline), ("https://mirror", true));
    assert_eq!(config.cache_dir, folder.path().join("hf/hub"));
    assert_eq!(config.token.as_deref(), Some("t"));
    assert_eq!(read(&[("HF_HOME", "/a"), ("HF_HUB_CACHE", "/b")]).cache_dir, Path::new("/b"));
    assert_eq!(read(&[("XDG_CACHE_HOME", "/x")]).cache_dir, Path::new("/x/huggingface/hub"));
    assert!(!read(&[("HF_HUB_OFFLINE", "0")]).offline && read(&[("TRANSFORMERS_OFFLINE", "yes")]).offline);

    let token_folder = folder.path().join(".cache/huggingface");
    fs::create_dir_all(&token_folder).unwrap();
    fs::write(token_folder.join("token"), "from file\n").unwrap();
    assert_eq!(read(&[]).token.as_deref(), Some("from file"));
    assert_eq!(read(&[("HF_TOKEN", "variable")]).token.as_deref(), Some("variable"));
    assert_eq!(read(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
}

#[test]
fn certificates_that_are_none_are_told() {
    let world = World::new();
    let mut config = world.config();
    config.ca_bundle = Some(world.cache.path().join("none.pem"));
    let error = world.get_with(&config, "org/tiny", "main", "").unwrap_err();
    assert!(error.contains("none.pem: cannot be read as certificates"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_written_is_told() {
    let world = World::new();
    let mut config = world.config();
    let file = world.cache.path().join("file");
    fs::write(&file, "").unwrap();
    config.cache_dir = file;
    let error = world.get_with(&config, "org/tiny", "main", "").unwrap_err();
    assert!(error.starts_with("cache ") && error.contains("HF_HOME"), "{error}");
}
