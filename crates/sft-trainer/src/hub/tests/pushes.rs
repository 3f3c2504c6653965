//! Pushing to a hub on the loopback interface.

use super::*;
use crate::config::{HubStrategy, PushConfig};
use crate::push::{PushCheckpoints, Pusher};
use trainer_core::{Callback, CallbackContext, Requests, TrainerState, TrainingArguments};

const ONCE: &[(&str, &str)] = &[];

fn push(world: &World) -> Push {
    let folder = world.cache.path();
    fs::write(folder.join("config.json"), "{}").unwrap();
    fs::write(folder.join("README.md"), "a card").unwrap();
    let files = ["config.json", "README.md"].map(|name| (name.to_owned(), folder.join(name)));
    Push {
        repo_id: "org/tuned".to_owned(),
        is_private: Some(true),
        branch: "main".to_owned(),
        message: "step 3".to_owned(),
        files: files.to_vec(),
    }
}

fn hub(world: &World) -> Hub {
    world.hub().with_token("secret".to_owned())
}

/// The lines of the last commit.
fn committed(world: &World) -> (String, Vec<serde_json::Value>) {
    let (path, body) = world.server.state().commits.pop().unwrap();
    (path, body.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn files_are_one_commit() {
    let world = World::new();
    let address = hub(&world).push(&push(&world)).unwrap();
    assert_eq!(address, "http://hub/org/tuned");
    let (path, lines) = committed(&world);
    assert_eq!(path, "/api/models/org/tuned/commit/main");
    assert_eq!((lines.len(), &lines[0]["value"]["summary"]), (3, &"step 3".into()));
    // "{}" and "a card" as base64.
    assert_eq!((&lines[1]["value"]["path"], &lines[1]["value"]["content"]), (&"config.json".into(), &"e30=".into()));
    assert_eq!((&lines[2]["value"]["path"], &lines[2]["value"]["content"]), (&"README.md".into(), &"YSBjYXJk".into()));
    let state = world.server.state();
    assert!(state.requests.iter().all(|request| request.authorization.as_deref() == Some("Bearer secret")));
}

#[test]
fn a_name_alone_belongs_to_the_owner_of_the_token() {
    let world = World::new();
    let named = Push { repo_id: "tuned".to_owned(), branch: "trial".to_owned(), ..push(&world) };
    assert_eq!(hub(&world).push(&named).unwrap(), "http://hub/me/tuned");
    assert_eq!(committed(&world).0, "/api/models/me/tuned/commit/trial");
    assert!(world.server.take_requests().contains(&"POST /api/models/me/tuned/branch/trial".to_owned()));
}

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    let world = World::new();
    for path in ["/api/repos/create", "/api/models/org/tuned/preupload/main", "/api/models/org/tuned/commit/main"] {
        world.server.fail(path, Failure::Status(500, ONCE));
    }
    hub(&world).push(&push(&world)).unwrap();
    assert_eq!(world.server.state().commits.len(), 1);
}

#[test]
fn a_repository_and_a_branch_that_are_there_are_used() {
    let world = World::new();
    world.server.fail("/api/repos/create", Failure::Status(409, ONCE));
    world.server.fail("/api/models/org/tuned/branch/trial", Failure::Status(409, ONCE));
    let on_branch = Push { branch: "trial".to_owned(), ..push(&world) };
    assert!(hub(&world).push(&on_branch).unwrap().ends_with("/org/tuned"));
    assert_eq!(committed(&world).0, "/api/models/org/tuned/commit/trial");
}

#[test]
fn a_token_that_may_not_write_is_told() {
    let world = World::new();
    for status in [401, 403] {
        world.server.fail("/api/repos/create", Failure::Status(status, ONCE));
        let told = message(&hub(&world).push(&push(&world)).unwrap_err());
        assert_eq!(told, "org/tuned: access denied: set HF_TOKEN or `hub_token` to a token that may write to it");
    }
    assert!(world.server.state().commits.is_empty());
}

#[test]
fn a_hub_out_of_reach_is_told() {
    let world = World::new();
    let nowhere = Hub::from_variables(&|name| match name {
        "HF_ENDPOINT" => Some("http://127.0.0.1:9".to_owned()),
        "HF_HUB_CACHE" => Some(world.cache.path().display().to_string()),
        _ => None,
    });
    let told = message(&nowhere.unwrap().push(&push(&world)).unwrap_err());
    assert!(told.starts_with("http://127.0.0.1:9/api/repos/create cannot be reached"), "{told}");
}

/// A checkpoint as a run leaves it, and what each strategy pushes of it.
fn pushed_of_checkpoint(world: &World, hub_strategy: HubStrategy) -> Vec<String> {
    let checkpoint = world.cache.path().join("checkpoint-6");
    fs::create_dir_all(&checkpoint).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "optimizer.safetensors", "run.json"] {
        fs::write(checkpoint.join(name), name).unwrap();
    }
    let config = PushConfig { push_to_hub: true, hub_strategy, ..PushConfig::default() };
    let mut callback = PushCheckpoints::new(Pusher::to(hub(world), config, "org/tuned".to_owned()));
    let (arguments, state) = (TrainingArguments::default(), TrainerState { global_step: 6, ..TrainerState::default() });
    let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
    let mut requests = Requests::default();
    callback.on_save(&context, &checkpoint, &mut requests).unwrap();
    callback.on_train_end(&context, &mut requests).unwrap();
    if world.server.state().commits.is_empty() {
        return Vec::new();
    }
    let (_, lines) = committed(world);
    assert_eq!(lines[0]["value"]["summary"], "Training in progress, step 6");
    lines[1..].iter().map(|line| line["value"]["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn checkpoints_are_pushed_on_the_way_as_the_strategy_says() {
    let world = World::new();
    let model = ["config.json", "model.safetensors", "tokenizer.json"];
    let none: [&str; 0] = [];
    assert_eq!(pushed_of_checkpoint(&world, HubStrategy::End), none);
    assert_eq!(pushed_of_checkpoint(&world, HubStrategy::EverySave), model);
    for (strategy, folder) in
        [(HubStrategy::Checkpoint, "last-checkpoint"), (HubStrategy::AllCheckpoints, "checkpoint-6")]
    {
        let pushed = pushed_of_checkpoint(&world, strategy);
        assert_eq!((&pushed[..3], pushed.len()), (&model.map(str::to_owned)[..], 8));
        assert!(pushed.contains(&format!("{folder}/optimizer.safetensors")), "{pushed:?}");
    }
}

#[test]
fn a_push_that_fails_does_not_end_the_run() {
    let world = World::new();
    world.server.fail("/api/repos/create", Failure::Status(401, ONCE));
    assert!(pushed_of_checkpoint(&world, HubStrategy::EverySave).is_empty(), "and on_save is no error");
    assert_eq!(pushed_of_checkpoint(&world, HubStrategy::EverySave).len(), 3, "the next one is pushed");
}
