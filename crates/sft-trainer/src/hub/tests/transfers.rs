//! Transfers that break, move, repeat or run side by side.

use super::*;

#[test]
fn a_broken_transfer_goes_on_where_it_ended() {
    let world = World::new();
    for length in [100_000, 1, 200_000] {
        world.server.fail(&weights_path(), Failure::CutAfter(length));
    }
    let folder = world.get("model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let ranges: Vec<_> = world
        .server
        .state()
        .requests
        .iter()
        .filter(|request| request.method == "GET" && request.path == weights_path())
        .map(|request| request.range.clone())
        .collect();
    let ranges: Vec<_> = ranges.iter().map(Option::as_deref).collect();
    assert_eq!(
        ranges,
        [None, Some("bytes=100000-1199999"), Some("bytes=100001-1199999"), Some("bytes=300001-1199999")]
    );
}

#[test]
fn a_later_run_takes_up_what_an_earlier_one_left() {
    let world = World::new();
    world.server.fail(&weights_path(), Failure::CutAfter(500_000));
    for _ in 0..4 {
        world.server.fail(&weights_path(), Failure::CutAfter(0));
    }
    let error = world.get("model").unwrap_err();
    assert!(error.starts_with("org/tiny: model.safetensors broke off after 488.28 KiB"), "{error}");
    assert!(!world.repo_folder().join("snapshots").exists());
    world.server.take_requests();
    world.get("model").unwrap();
    let state = world.server.state();
    assert_eq!(state.requests.last().unwrap().range.as_deref(), Some("bytes=500000-1199999"));
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let world = World::new();
    world.server.fail(&weights_path(), Failure::CutAfter(1000));
    world.server.fail(&weights_path(), Failure::NoRanges);
    let folder = world.get("model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_leftover_that_is_too_long_is_thrown_away() {
    let world = World::new();
    let partial = world.repo_folder().join("blobs").join(format!("{}.incomplete", sha256(&weights())));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, vec![0; 2_000_000]).unwrap();
    let folder = world.get("model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn wrong_content_is_not_kept() {
    let world = World::new();
    let path = weights_path().replace("model.safetensors", "config.json");
    world.server.fail(&path, Failure::Content(b"{ }  "));
    let error = world.get("config").unwrap_err();
    assert!(error.starts_with("org/tiny: config.json has 5 bytes where the hub announced 2"), "{error}");
    world.server.fail(&path, Failure::Content(b"[]"));
    let error = world.get("config").unwrap_err();
    assert!(error.starts_with("org/tiny: config.json was damaged on the way"), "{error}");
    assert_eq!(fs::read_dir(world.repo_folder().join("blobs")).unwrap().count(), 0);
    let folder = world.get("config").unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
}

#[test]
fn large_files_come_from_a_store_that_never_sees_the_token() {
    let world = World::new();
    let store = Server::start();
    store.store_content(&weights());
    world.server.state().store = Some(store.address.clone());
    let mut hub = world.hub();
    hub.settings.token = Some("hf_secret".to_owned());
    store.fail(&format!("/store/{}", sha256(&weights())), Failure::CutAfter(10_000));
    let folder = world.get_with(&hub, "org/tiny", "main", "model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert!(
        world
            .server
            .state()
            .requests
            .iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer hf_secret"))
    );
    let state = store.state();
    assert!(state.requests.iter().all(|request| request.authorization.is_none()));
    let gets: Vec<_> = state.requests.iter().filter(|request| request.method == "GET").collect();
    assert_eq!(gets.len(), 2, "asked for the content alone, once more after the break");
    assert_eq!(gets[1].range.as_deref(), Some("bytes=10000-1199999"));
}

#[test]
fn a_repository_that_moved_is_followed() {
    let world = World::new();
    world
        .server
        .fail("/api/models/org/old/revision/main", Failure::MovedTo("/api/models/org/tiny/revision/main".to_owned()));
    let old = weights_path().replace("org/tiny", "org/old");
    // Two questions about the file, one for its content.
    for _ in 0..3 {
        world.server.fail(&old, Failure::MovedTo(weights_path()));
    }
    let folder = world.get_with(&world.hub(), "org/old", "main", "model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    for _ in 0..20 {
        world.server.fail(
            "/api/models/org/loop/revision/main",
            Failure::MovedTo("/api/models/org/loop/revision/main".to_owned()),
        );
    }
    assert!(world.get_with(&world.hub(), "org/loop", "main", "").unwrap_err().contains("more than 10 redirects"));
}

#[test]
fn passing_failures_pass() {
    let world = World::new();
    let list = "/api/models/org/tiny/revision/main";
    for status in [503, 429, 500] {
        world.server.fail(list, Failure::Status(status, &[("retry-after", "0")]));
    }
    world.server.fail(&weights_path(), Failure::Status(502, &[]));
    world.get("model").unwrap();
    for _ in 0..4 {
        world.server.fail(list, Failure::Status(503, &[("retry-after", "0")]));
    }
    assert!(world.get("model").unwrap_err().contains("status 503"));
}

#[test]
fn a_lost_connection_is_made_again_twice() {
    let world = World::new();
    let list = "/api/models/org/tiny/revision/main";
    let hang_up = |times: usize| (0..times).for_each(|_| world.server.fail(list, Failure::HangUp));
    hang_up(2);
    world.get("config").unwrap();
    fs::remove_dir_all(world.repo_folder()).unwrap();
    hang_up(3);
    assert!(world.get("config").unwrap_err().contains("cannot be reached"));
    assert_eq!(world.server.take_requests().iter().filter(|request| request.ends_with(list)).count(), 6);
}

#[test]
fn an_address_that_is_no_hub_is_told() {
    let world = World::new();
    let list = "/api/models/org/tiny/revision/main";
    for page in [
        "<html>Sign in</html>",
        "{\"id\": \"a\", \"sha\": \"../../x\", \"siblings\": []}",
        "{\"id\": \"a\", \"sha\": \"a\"}",
        "{\"id\": \"a\", \"siblings\": []}",
    ] {
        world.server.fail(list, Failure::Page(page));
        let error = world.get("").unwrap_err();
        assert!(error.contains("is HF_ENDPOINT right?"), "{error}");
    }
    world.server.fail(
        list,
        Failure::Page("{\"id\": \"a\", \"sha\": \"abc\", \"siblings\": [{\"rfilename\": \"../../evil\"}]}"),
    );
    let error = world.get("").unwrap_err();
    assert_eq!(error, "org/tiny: refusing a file named \"../../evil\"");
}

#[test]
fn a_revision_may_have_slashes() {
    let world = World::new();
    world.get_with(&world.hub(), "org/tiny", "refs/convert/parquet", "config").unwrap();
    assert!(world.server.take_requests()[0].ends_with("/revision/refs%2Fconvert%2Fparquet"));
    let mut hub = world.hub();
    hub.settings.is_offline = true;
    assert!(world.get_with(&hub, "org/tiny", "refs/convert/parquet", "config").is_ok());
    assert!(world.repo_folder().join("refs/refs/convert/parquet").is_file());
}

#[test]
fn two_at_once_fetch_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(fs::read(world.get("model").unwrap().join("model.safetensors")).unwrap(), weights())
            });
        }
    });
    assert_eq!(fs::read_dir(world.repo_folder().join("snapshots").join(commit_of("org/tiny"))).unwrap().count(), 1);
    let gets = world
        .server
        .take_requests()
        .into_iter()
        .filter(|request| *request == format!("GET {}", weights_path()))
        .count();
    assert_eq!(gets, 1);
}

#[test]
fn a_damaged_leftover_is_replaced() {
    let world = World::new();
    let partial = world.repo_folder().join("blobs").join(format!("{}.incomplete", sha256(&weights())));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    for length in [1000, weights().len()] {
        fs::write(&partial, vec![7; length]).unwrap();
        let folder = world.get("model").unwrap();
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
        fs::remove_dir_all(world.repo_folder().join("blobs")).unwrap();
        fs::create_dir_all(world.repo_folder().join("blobs")).unwrap();
    }
}

#[test]
fn a_file_that_xet_cannot_bring_comes_over_http() {
    let world = World::new();
    let store = Server::start();
    store.store_content(&weights());
    world.server.state().store = Some(store.address.clone());
    world.server.state().xet.push(format!("{}/model.safetensors", commit_of("org/tiny")));
    let asked = format!("GET /api/models/org/tiny/xet-read-token/{}", commit_of("org/tiny"));
    let mut hub = world.hub();
    let log = log_of(|| {
        let folder = world.get_with(&hub, "org/tiny", "main", "model").unwrap();
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    });
    assert!(world.server.take_requests().contains(&asked), "the protocol was tried");
    assert!(log.contains("WARN") && log.contains("cannot be fetched by the Xet protocol"), "{log}");
    assert_eq!(fs::read_dir(world.repo_folder().join("blobs")).unwrap().count(), 1);

    fs::remove_dir_all(world.repo_folder()).unwrap();
    let partial = world.repo_folder().join("blobs").join(format!("{}.incomplete", sha256(&weights())));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(&partial, &weights()[..1000]).unwrap();
    world.get_with(&hub, "org/tiny", "main", "model").unwrap();
    assert!(!world.server.take_requests().contains(&asked), "a leftover continues over HTTP");
    assert_eq!(store.state().requests.last().unwrap().range.as_deref(), Some("bytes=1000-1199999"));

    fs::remove_dir_all(world.repo_folder()).unwrap();
    hub.settings.uses_xet = false;
    let log = log_of(|| drop(world.get_with(&hub, "org/tiny", "main", "model").unwrap()));
    assert!(!world.server.take_requests().contains(&asked) && !log.contains("WARN"), "{log}");
}

#[test]
fn a_mirror_may_send_on_to_the_hub() {
    let world = World::new();
    let mirror = Server::start();
    mirror.fail(
        "/api/models/org/tiny/revision/main",
        Failure::MovedTo(format!("{}/api/models/org/tiny/revision/main", world.server.address)),
    );
    for _ in 0..3 {
        mirror.fail(&weights_path(), Failure::MovedTo(format!("{}{}", world.server.address, weights_path())));
    }
    let mut hub = world.hub();
    hub.settings.endpoint = mirror.address.parse().unwrap();
    hub.settings.token = Some("hf_secret".to_owned());
    let folder = world.get_with(&hub, "org/tiny", "main", "model").unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let state = world.server.state();
    assert!(state.requests.iter().all(|request| request.authorization.is_none()), "the token stays at the mirror");
    assert!(mirror.state().requests.iter().all(|request| request.authorization.is_some()));
}

#[test]
fn a_transfer_is_told_without_a_terminal() {
    let world = World::new();
    let log = log_of(|| drop(world.get("model").unwrap()));
    assert!(log.contains("INFO") && log.contains("fetching org/tiny: model.safetensors (1.14 MiB)"), "{log}");
    fs::remove_dir_all(world.repo_folder()).unwrap();
    world.server.fail(&weights_path(), Failure::CutAfter(500_000));
    for _ in 0..4 {
        world.server.fail(&weights_path(), Failure::CutAfter(0));
    }
    world.get("model").unwrap_err();
    let log = log_of(|| drop(world.get("model").unwrap()));
    assert!(log.contains("model.safetensors (1.14 MiB), of which 488.28 KiB are there"), "{log}");
}

#[test]
fn threads_share_a_hub() {
    let world = World::new();
    let hub = world.hub();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let folder = world.get_with(&hub, "org/tiny", "main", "").unwrap();
                assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
            });
        }
    });
    let gets = world.server.take_requests().into_iter().filter(|request| request.starts_with("GET /org/tiny/resolve"));
    assert_eq!(gets.count(), 3, "each file once");
}
