//! What to do about columns that rows cannot be made of.

use super::super::read::Record;
use serde_json::Value;

/// Columns that together look like a question and its answer, and the name of such files.
const PAIRS: [(&str, &str); 22] = [
    ("instruction", "output"),
    ("instruction", "response"),
    ("instruction", "answer"),
    ("instruction", "completion"),
    ("question", "answer"),
    ("question", "answers"),
    ("question", "response"),
    ("question", "solution"),
    ("question", "output"),
    ("query", "response"),
    ("query", "answer"),
    ("query", "output"),
    ("problem", "solution"),
    ("problem", "answer"),
    ("prompt", "response"),
    ("prompt", "output"),
    ("prompt", "answer"),
    ("prompt", "target"),
    ("input", "output"),
    ("inputs", "targets"),
    ("source", "target"),
    ("user", "assistant"),
];
/// Columns that together look like two texts to classify.
const CLASSIFICATION: [(&str, &str); 6] = [
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
    ("context", "question"),
];
/// Further inputs that belong to an instruction.
const INPUTS: [&str; 3] = ["input", "context", "system"];
/// Names that are given to lists of messages.
const CHATS: [&str; 7] = ["conversation", "dialog", "dialogue", "chat", "turns", "message", "messages"];

/// Says what the columns look like and what to do. It never advises to train on one half of a pair.
pub(in super::super) fn advice(columns: &[String], sample: &Record) -> String {
    let has = |name: &str| columns.iter().any(|column| column == name);
    let pair = |pairs: &[(&'static str, &'static str)]| pairs.iter().copied().find(|(a, b)| has(a) && has(b));
    if has("input_ids") {
        return "`input_ids` holds token ids of some tokenizer; give the texts or messages that they were made of"
            .to_owned();
    }
    if has("chosen") && has("rejected") {
        return "`chosen` and `rejected` are preferences, which this training does not use: write what was chosen as \
                `messages`, or as `prompt` and `completion`"
            .to_owned();
    }
    for name in ["messages", "conversations"] {
        if let Some(Value::String(text)) = sample.get(name) {
            let python = text.trim_start().starts_with(['[', '{']);
            let hint = if python { ", as Python's json.dumps does (str() does not)" } else { "" };
            return format!("`{name}` holds text that is not JSON of a list of messages: write lists or JSON{hint}");
        }
    }
    if let Some((question, answer)) = pair(&PAIRS) {
        let inputs: Vec<&str> = INPUTS.into_iter().filter(|&name| has(name) && name != question).collect();
        let alpaca = if (question, answer) == ("instruction", "output") { " (Alpaca)" } else { "" };
        let prompt = match inputs.as_slice() {
            [] => format!("`{question}`"),
            inputs => format!("`{question}` with `{}`", inputs.join("` and `")),
        };
        return format!(
            "they look like questions and answers{alpaca}: write a file with {prompt} as `prompt` and `{answer}` as \
             `completion`, or with both as `messages`"
        );
    }
    if let Some((first, second)) = pair(&CLASSIFICATION) {
        return format!(
            "`{first}` and `{second}` look like inputs of a classifier: write what the model is to read and to answer \
             as `prompt` and `completion`, or as `messages`"
        );
    }
    if has("prompt") || has("completion") {
        let (found, missing) = if has("prompt") { ("prompt", "completion") } else { ("completion", "prompt") };
        return format!("there is a `{found}` but no `{missing}`: add that column, or write whole texts as `text`");
    }
    if let Some(chat) = CHATS.into_iter().find(|name| has(name)) {
        return format!("if `{chat}` holds lists of messages, name it with `dataset_text_field`");
    }
    "name one with `dataset_text_field`".to_owned()
}
