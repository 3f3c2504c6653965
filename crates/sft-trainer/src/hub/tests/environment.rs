//! What the environment decides: addresses, folders, token, proxies.

use super::*;
use std::process::Command;
use std::time::Instant;

#[test]
fn the_environment_is_read_as_huggingface_hub_does() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_string_lossy().into_owned();
    let read = |variables: &[(&str, &str)]| {
        Settings::from_variables(&|name| {
            let set = variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
            set.or_else(|| (name == "HOME").then(|| home.clone()))
        })
        .unwrap()
    };
    let settings = read(&[]);
    assert_eq!(settings.endpoint(), "https://huggingface.co");
    assert_eq!(settings.cache_dir, folder.path().join(".cache/huggingface/hub"));
    assert_eq!((settings.token, settings.is_offline), (None, false));

    let settings = read(&[
        ("HF_ENDPOINT", "https://mirror/ "),
        ("HF_HOME", "~/hf"),
        ("HF_TOKEN", " t\n"),
        ("HF_HUB_OFFLINE", "1"),
    ]);
    assert_eq!((settings.endpoint(), settings.is_offline), ("https://mirror", true));
    assert_eq!(settings.cache_dir, folder.path().join("hf/hub"));
    assert_eq!(settings.token.as_deref(), Some("t"));
    assert_eq!(read(&[("HF_HOME", "/a"), ("HF_HUB_CACHE", "/b")]).cache_dir, Path::new("/b"));
    assert_eq!(read(&[("XDG_CACHE_HOME", "/x")]).cache_dir, Path::new("/x/huggingface/hub"));
    assert!(!read(&[("HF_HUB_OFFLINE", "0")]).is_offline && read(&[("TRANSFORMERS_OFFLINE", "yes")]).is_offline);

    let token_folder = folder.path().join(".cache/huggingface");
    fs::create_dir_all(&token_folder).unwrap();
    fs::write(token_folder.join("token"), "from file\n").unwrap();
    assert_eq!(read(&[]).token.as_deref(), Some("from file"));
    assert_eq!(read(&[("HF_TOKEN", "variable")]).token.as_deref(), Some("variable"));
    assert_eq!(read(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
}

#[test]
fn an_address_of_another_kind_is_refused_at_once() {
    for address in ["not an address", "ftp://mirror", "huggingface.co"] {
        let error = Hub::from_variables(&|name| (name == "HF_ENDPOINT").then(|| address.to_owned())).unwrap_err();
        assert!(error.to_string().starts_with(&format!("HF_ENDPOINT is {address:?}")), "{error}");
    }
}

#[test]
fn an_address_without_a_scheme_is_completed_in_the_message() {
    let error_of = |address: &str| {
        let set = |name: &str| (name == "HF_ENDPOINT").then(|| address.to_owned());
        Hub::from_variables(&set).unwrap_err().to_string()
    };
    assert!(error_of("hf-mirror.com").ends_with("http:// or https://, for example https://hf-mirror.com"));
    assert!(error_of("localhost:8080").ends_with("http:// or https://"));
}

#[test]
fn without_a_home_folder_the_cache_has_to_be_named() {
    let hub = |set: &[(&str, &str)]| {
        let of = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Hub::from_variables(&of).unwrap()
    };
    for set in [&[][..], &[("HF_HOME", "~/hf")], &[("HF_HUB_CACHE", "~/cache"), ("HF_TOKEN", "t")]] {
        let error = hub(set).open(RepoKind::Model, "org/tiny", "main").unwrap_err();
        assert!(error.to_string().contains("HOME is not set; set HF_HOME to a folder"), "{error}");
        // A model in a folder needs no cache.
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(hub(set).model_dir(&folder.path().to_string_lossy(), "main").unwrap(), folder.path());
    }
    assert_eq!(hub(&[("HF_HOME", "/hf")]).settings.cache_dir, Path::new("/hf/hub"));
    assert_eq!(hub(&[("XDG_CACHE_HOME", "/x")]).settings.cache_dir, Path::new("/x/huggingface/hub"));
}

#[test]
fn xet_is_left_out_where_it_cannot_work() {
    let uses_xet = |names: &[&str]| {
        Settings::from_variables(&|name| names.contains(&name).then(|| "1".to_owned())).unwrap().uses_xet
    };
    assert!(uses_xet(&[]) && uses_xet(&["SSL_CERT_FILE"]));
    assert!(!uses_xet(&["HF_HUB_DISABLE_XET"]) && !uses_xet(&["REQUESTS_CA_BUNDLE"]));
}

#[test]
fn nothing_is_connected_before_the_first_request() {
    let start = Instant::now();
    let hub = Hub::from_env().unwrap();
    assert!(hub.connection.get().is_none());
    println!("from_env took {:?}", start.elapsed());
}

/// Runs as a program of its own with the variables of
/// [`proxies_and_the_token_come_from_the_environment`].
#[test]
#[ignore = "run by the test of proxies, with its environment"]
fn fetch_with_the_environment() {
    let hub = match std::env::var("TEST_LEAVES_OUT") {
        Ok(name) => Hub::from_variables(&|wanted| std::env::var(wanted).ok().filter(|_| wanted != name)).unwrap(),
        Err(_) => Hub::from_env().unwrap(),
    };
    if let Err(error) = hub.snapshot(RepoKind::Model, "org/tiny", "main", &|name| name.contains("config")) {
        panic!("{}", message(&error));
    }
}

#[test]
fn proxies_and_the_token_come_from_the_environment() {
    let world = World::new();
    // The server answers for any host, so a name that nobody has shows that the proxy was used.
    let fetch = |endpoint: &str, no_proxy: &str, folder: &str, more: &[(&str, &str)]| {
        let cache = world.cache.path().join(folder);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "hub::tests::environment::fetch_with_the_environment"])
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HUB_CACHE", &cache)
            .env("HF_TOKEN", "hf_secret")
            .env("HTTP_PROXY", &world.server.address)
            .env("http_proxy", &world.server.address)
            .env("NO_PROXY", no_proxy)
            .env("no_proxy", no_proxy)
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("TRANSFORMERS_OFFLINE")
            .envs(more.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text, cache.join("models--org--tiny/refs/main").is_file())
    };
    let (is_ok, text, is_cached) = fetch("http://hub.invalid", "", "a", &[]);
    assert!(is_ok && is_cached && text.contains("1 passed"), "{text}");
    let requests: Vec<_> = world.server.state().requests.drain(..).collect();
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert!(request.proxied.as_ref().is_some_and(|url| url.starts_with("http://hub.invalid/")), "{request:?}");
        assert_eq!(request.authorization.as_deref(), Some("Bearer hf_secret"));
    }

    let (is_ok, text, _) = fetch(&world.server.address, "127.0.0.1", "b", &[("TEST_LEAVES_OUT", "HF_TOKEN")]);
    assert!(is_ok, "{text}");
    let requests: Vec<_> = world.server.state().requests.drain(..).collect();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.proxied.is_none()));
    // The environment of the process has a token, the hub's variables have none.
    assert!(requests.iter().all(|request| request.authorization.is_none()));
    let (is_ok, text, _) = fetch("http://hub.invalid", "hub.invalid", "c", &[]);
    assert!(!is_ok && world.server.take_requests().is_empty(), "{text}");
}

#[test]
fn a_system_without_certificates_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "hub::tests::environment::fetch_with_the_environment"])
        .env("HF_HUB_CACHE", folder.path())
        .env("SSL_CERT_DIR", folder.path())
        .envs(["HF_HUB_OFFLINE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].map(|name| (name, "")))
        .env_remove("SSL_CERT_FILE")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("No CA certificates") && text.contains("set SSL_CERT_FILE"), "{text}");
}
