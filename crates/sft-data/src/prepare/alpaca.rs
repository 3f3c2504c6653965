//! Rows in the format of Alpaca.
//!
//! With a chat template they are chats as LLaMA-Factory documents them: the input follows the
//! instruction on a line of its own, and the answers in the history count in the loss too, unless
//! only the last turn or the completion is to count. Without a template, a row becomes the text
//! that Alpaca was trained with.

use super::config::LossOn;
use crate::{Alpaca, ChatContext, ChatTokenizer, Error, PromptCompletion, Turn};
use serde_json::{Value, json};

/// What Alpaca's texts start with, unless the row has a system message. The words are part of the
/// format: a model that was trained with them expects them.
const WITHOUT_INPUT: &str = "Below is an instruction that describes a task. Write a response that appropriately \
                             completes the request.";
const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further \
                          context. Write a response that appropriately completes the request.";

/// The row as prompt and completion, and what counts in the loss of such a row.
pub(super) fn prompt_completion(
    row: &Alpaca,
    tokenizer: &ChatTokenizer,
    loss_on: LossOn,
) -> Result<(PromptCompletion, LossOn), Error> {
    if tokenizer.has_chat_template() {
        let learns_history = !row.history.is_empty() && loss_on == LossOn::Default;
        return Ok((chat(row), if learns_history { LossOn::AssistantAnywhere } else { loss_on }));
    }
    if !row.history.is_empty() {
        return Err(Error::NotForRow {
            option: "dataset_format",
            problem: "this Alpaca row has a history, which needs a chat template: name one with `chat_template_path`"
                .to_owned(),
        });
    }
    // What the assistant says is the completion.
    let loss_on = if loss_on.is_assistant() { LossOn::Completion } else { loss_on };
    Ok((text(row), loss_on))
}

fn chat(row: &Alpaca) -> PromptCompletion {
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let mut prompt: Vec<Value> = Vec::with_capacity(2 + 2 * row.history.len());
    if !row.system.is_empty() {
        prompt.push(message("system", &row.system));
    }
    for [instruction, answer] in &row.history {
        prompt.extend([message("user", instruction), message("assistant", answer)]);
    }
    let asked = [&row.instruction, &row.input].into_iter().filter(|text| !text.is_empty());
    let asked: Vec<&str> = asked.map(String::as_str).collect();
    prompt.push(message("user", &asked.join("\n")));
    let completion = match row.output.is_empty() {
        true => Vec::new(),
        false => vec![message("assistant", &row.output)],
    };
    let context = ChatContext::default();
    PromptCompletion { prompt: Turn::Messages(prompt), completion: Turn::Messages(completion), context }
}

fn text(row: &Alpaca) -> PromptCompletion {
    let Alpaca { instruction, input, output, system, .. } = row;
    let start = match (system.is_empty(), input.is_empty()) {
        (false, _) => system,
        (true, true) => WITHOUT_INPUT,
        (true, false) => WITH_INPUT,
    };
    let input = if input.is_empty() { String::new() } else { format!("### Input:\n{input}\n\n") };
    let prompt = format!("{start}\n\n### Instruction:\n{instruction}\n\n{input}### Response:\n");
    let context = ChatContext::default();
    PromptCompletion { prompt: Turn::Text(prompt), completion: Turn::Text(output.clone()), context }
}
