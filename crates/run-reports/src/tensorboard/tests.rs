use super::*;
use serde_json::json;
use trainer_core::{TrainerState, TrainingArguments};

/// The bytes of TensorBoard's own writer, see `tests/goldens/make.py`.
const GOLDEN: &[u8] = include_bytes!("../../tests/goldens/events.bin");

#[test]
fn bytes_are_those_of_tensorboards_own_writer() {
    let text = "héllo 你好 ".repeat(20);
    let contents = [
        (0, Content::FileVersion),
        (301, Content::SessionStart),
        (300, Content::Scalar { tag: "train/loss", value: 2.5 }),
        (300, Content::Scalar { tag: "eval/loss", value: f32::NAN }),
        (70000, Content::Text { tag: "train/note", text: &text }),
    ];
    let events = contents.map(|(step, content)| Event { wall_time: 1_700_000_000.25, step, content });
    let bytes: Vec<u8> = events.iter().flat_map(|event| record::framed(&event.encoded())).collect();
    assert!(bytes == GOLDEN, "{bytes:?}\n{GOLDEN:?}");
}

/// The tags in a file of events, without a decoder: each is printable text in its record.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn tags_and_folders_are_those_of_hugging_face() {
    let dir = tempfile::tempdir().unwrap();
    let mut places = Places::new(dir.path());
    places.run_name = Some("a/b".to_owned());
    places.settings.insert("learning_rate".to_owned(), json!(1e-5));
    let mut board = TensorBoard::new(places);
    let arguments = TrainingArguments::default();
    let state = TrainerState { global_step: 0, max_steps: 9, ..TrainerState::default() };
    let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: None };
    board.begin(&context).unwrap();
    let file = only_file(&dir.path().join("runs/a_b"));
    assert!(file.file_name().unwrap().to_string_lossy().starts_with("events.out.tfevents."));
    let entry = json!({ "loss": 2.5, "eval_loss": null, "perplexity": null, "save_error": "disk full", "step": 3 });
    board.log(&context, entry.as_object().unwrap()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    for tag in [
        "args/text_summary",
        "train/loss",
        "eval/loss",
        "eval/perplexity",
        "train/save_error/text_summary",
        "disk full",
    ] {
        assert!(holds(&bytes, tag), "{tag}");
    }
    assert!(!holds(&bytes, "train/step"));
}

#[test]
fn a_complete_run_that_is_resumed_leaves_no_further_file() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments::default();
    let state = TrainerState { global_step: 9, max_steps: 9, ..TrainerState::default() };
    let context = CallbackContext { arguments: &arguments, state: &state, resumed_from: Some(dir.path()) };
    TensorBoard::new(Places::new(dir.path())).begin(&context).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
