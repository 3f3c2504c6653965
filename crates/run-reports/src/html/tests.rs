use super::*;
use crate::{Destination, Reports};
use serde_json::json;
use trainer_core::testing::{PlainStore, ToyLearner, ToySource};
use trainer_core::{Trainer, TrainerState, TrainingArguments};

/// A run of 6 steps with 3 evaluations, the second of them the best.
fn run(dir: &std::path::Path) -> String {
    let arguments = TrainingArguments {
        logging_steps: 1.0,
        output_dir: dir.to_owned(),
        ..TrainingArguments { num_train_epochs: 3.0, ..TrainingArguments::documented_recipe() }
    };
    let mut learner = ToyLearner::default().with_eval_loss(|step| [0.75, 0.5, 0.625][step as usize / 2 - 1]);
    let mut places = Places::new(dir);
    places.run_name = Some("<b>first</b>".to_owned());
    places.settings.insert("optim".to_owned(), json!("galore_adamw"));
    places.settings.insert("optim_args".to_owned(), json!("rank=4, update_proj_gap=2"));
    places.data.push("train: 16 rows".to_owned());
    let reports = Reports::new(&[Destination::Html], places);
    let (train, eval) = (ToySource::new(16, 8), ToySource::new(8, 8));
    let mut store = PlainStore::new(dir);
    let trainer = Trainer::builder(arguments, &mut learner, &train).eval_source(&eval).store(&mut store);
    let output = trainer.callback(reports).build().unwrap().train().unwrap();
    output.state.save(&dir.join(TrainerState::FILE_NAME)).unwrap();
    std::fs::read_to_string(dir.join(HtmlReport::FILE_NAME)).unwrap()
}

#[test]
fn the_page_shows_the_run_and_needs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let html = run(dir.path());
    assert!(html.contains("&lt;b&gt;first&lt;/b&gt;") && !html.contains("<b>first"));
    for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Loss with evaluations, rate and pace; a ring at the best evaluation; refreshes at 1, 3 and 5.
    assert!(html.matches("<svg").count() >= 3, "{}", html.matches("<svg").count());
    assert_eq!(html.matches("<circle class=\"best\"").count(), 1);
    assert!(html.contains("<tr class=\"chosen\"><td class=\"figure\">4</td>"), "{html}");
    assert_eq!(html.matches("class=\"refresh\"").count(), 3 * html.matches("<svg").count());
    assert!(html.contains("<title>4: 0.5</title>") && html.contains("checkpoint-6") && html.contains("train: 16 rows"));
}

#[test]
fn the_folder_of_a_run_says_what_its_callback_saw() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let record = RunRecord::read(dir.path()).unwrap();
    assert_eq!((record.name.as_str(), record.steps), ("<b>first</b>", (6, 6)));
    assert_eq!(record.settings["optim"], "galore_adamw");
    assert!(record.chronicle.saves.contains(&6), "{:?}", record.chronicle);
    assert!(!record.chronicle.tokens_per_second.is_empty());
    let both = page(&[record.clone(), RunRecord { name: "other".to_owned(), settings: Default::default(), ..record }]);
    assert!(both.contains("Settings that differ") && both.contains("other · "));
}

#[test]
fn figures_that_are_not_finite_are_seen() {
    let entry = |value: Value| value.as_object().unwrap().clone();
    let record = RunRecord {
        log_history: vec![
            entry(json!({ "loss": 1.0, "step": 1 })),
            entry(json!({ "loss": null, "step": 2 })),
            entry(json!({ "loss": 1.0, "step": 3 })),
            entry(json!({ "save_error": "<disk> full", "step": 3 })),
        ],
        ..RunRecord::default()
    };
    let html = page(&[record]);
    assert!(html.contains("<title>2: NaN</title>") && html.contains("&lt;disk&gt; full"));
    assert_eq!(html.matches("<polyline").count(), 2);
}

#[test]
fn a_resumed_run_shows_the_checkpoint_it_goes_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = HtmlReport::new(Places::new(dir.path()));
    report.restore(&json!({ "saves": [3], "tokens_per_second": [[1, 2.0]] }));
    let arguments = TrainingArguments::default();
    let state = TrainerState { global_step: 6, max_steps: 9, ..TrainerState::default() };
    let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: Some(dir.path()) };
    report.begin(&context).unwrap();
    assert_eq!(report.chronicle.saves, [3, 6]);
    assert_eq!(report.chronicle.tokens_per_second, [(1, 2.0)]);
}
