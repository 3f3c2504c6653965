//! Turns one row into token ids and labels.

use super::config::LossOn;
use super::{Labels, left_out, num_targets};
use crate::tokenizer::AddGenerationPrompt;
use crate::{AddSpecialTokens, ChatContext, ChatTokenizer, Error, PromptCompletion, Row, Turn};
use std::ops::Range;

/// Token ids and labels of one row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TokenRow {
    pub(super) input_ids: Vec<u32>,
    /// `None` if every token counts.
    pub(super) labels: Option<Labels>,
    /// The number of the row, counted from 1.
    pub(super) number: u64,
    /// Whether the prompt alone is not tokenized as the start of prompt and completion.
    pub(super) prompt_parts_early: bool,
}

impl TokenRow {
    pub(super) fn num_targets(&self) -> usize {
        num_targets(0..self.input_ids.len(), self.labels.as_ref())
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.input_ids.truncate(length);
        self.input_ids.shrink_to_fit();
        if let Some(labels) = &mut self.labels {
            labels.truncate(length);
        }
    }

    fn masked(input_ids: Vec<u32>, counts: impl Fn(usize) -> bool) -> Self {
        let labels = (0..input_ids.len()).map(counts).collect();
        Self { input_ids, labels: Some(labels), ..Self::default() }
    }
}

pub(super) fn tokenize(row: &Row, tokenizer: &ChatTokenizer, loss_on: LossOn) -> Result<TokenRow, Error> {
    match row {
        Row::Text(_) if loss_on.is_assistant() => Err(not_a_conversation()),
        // EOS alone would be a row of one token, which no position predicts.
        Row::Text(text) if text.is_empty() => Ok(TokenRow::default()),
        Row::Text(text) => {
            let input_ids = tokenizer.encode(&with_eos(text, tokenizer), AddSpecialTokens::Yes)?;
            Ok(TokenRow { input_ids, ..TokenRow::default() })
        }
        Row::Messages(chat) if chat.messages.is_empty() => Ok(TokenRow::default()),
        Row::Messages(chat) if loss_on.is_assistant() => {
            let (input_ids, said_by_assistant) = tokenize_with_mask(&chat.messages, &chat.context, tokenizer)?;
            Ok(TokenRow::masked(input_ids, |i| said_by_assistant[i]))
        }
        Row::Messages(chat) => {
            let text = left_out::render_whole(&chat.messages, &chat.context, tokenizer)?;
            Ok(TokenRow { input_ids: tokenizer.encode(&text, AddSpecialTokens::No)?, ..TokenRow::default() })
        }
        Row::PromptCompletion(row) => prompt_completion(row, tokenizer, loss_on),
    }
}

fn prompt_completion(row: &PromptCompletion, tokenizer: &ChatTokenizer, loss_on: LossOn) -> Result<TokenRow, Error> {
    let (prompt_ids, input_ids, said_by_assistant) = match (&row.prompt, &row.completion) {
        (Turn::Text(_), _) | (_, Turn::Text(_)) if loss_on.is_assistant() => return Err(not_a_conversation()),
        (Turn::Text(prompt), Turn::Text(completion)) => {
            if completion.is_empty() {
                return Ok(TokenRow::default());
            }
            let whole = format!("{prompt}{}", with_eos(completion, tokenizer));
            let encode = |text: &str| tokenizer.encode(text, AddSpecialTokens::Yes);
            (encode(prompt)?, encode(&whole)?, None)
        }
        (Turn::Messages(prompt), Turn::Messages(completion)) => {
            if prompt.is_empty() || completion.is_empty() {
                return Ok(TokenRow::default());
            }
            let opened = tokenizer.render(prompt, &row.context, AddGenerationPrompt::Yes)?;
            let prompt_ids = tokenizer.encode(&opened, AddSpecialTokens::No)?;
            let whole: Vec<_> = prompt.iter().chain(completion).cloned().collect();
            if loss_on.is_assistant() {
                let (input_ids, mask) = tokenize_with_mask(&whole, &row.context, tokenizer)?;
                (prompt_ids, input_ids, Some(mask))
            } else {
                let text = left_out::render_whole(&whole, &row.context, tokenizer)?;
                (prompt_ids, tokenizer.encode(&text, AddSpecialTokens::No)?, None)
            }
        }
        _ => return Err(Error::MixedTurns),
    };
    if loss_on == LossOn::All {
        return Ok(TokenRow { input_ids, ..TokenRow::default() });
    }
    // This is not `prompt_ids.len()`: a template may render the prompt alone differently, and a
    // token may span the border between prompt and completion.
    let prompt_length = prompt_ids.iter().zip(&input_ids).take_while(|(a, b)| a == b).count();
    let prompt_parts_early = prompt_length < prompt_ids.len();
    let prompt_length = if loss_on == LossOn::AssistantAnywhere { 0 } else { prompt_length };
    let row = TokenRow::masked(input_ids, |i| {
        i >= prompt_length && said_by_assistant.as_ref().is_none_or(|said_by_assistant| said_by_assistant[i])
    });
    Ok(TokenRow { prompt_parts_early, ..row })
}

/// The token ids of a chat, and for each id whether the assistant says it.
fn tokenize_with_mask(
    messages: &[serde_json::Value],
    context: &ChatContext,
    tokenizer: &ChatTokenizer,
) -> Result<(Vec<u32>, Vec<bool>), Error> {
    let rendered = tokenizer.render_with_assistant_spans(messages, context)?;
    left_out::check(messages, context, &rendered.text, tokenizer)?;
    let encoding = tokenizer.encode_with_offsets(&rendered.text)?;
    let said_by_assistant = encoding
        .get_offsets()
        .iter()
        .map(|&(start, end)| rendered.assistant.iter().any(|span| overlaps(span, start..end)))
        .collect();
    Ok((encoding.get_ids().to_vec(), said_by_assistant))
}

fn overlaps(a: &Range<usize>, b: Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn with_eos(text: &str, tokenizer: &ChatTokenizer) -> String {
    let eos = tokenizer.eos_token();
    if text.ends_with(eos) { text.to_owned() } else { format!("{text}{eos}") }
}

fn not_a_conversation() -> Error {
    Error::AssistantMask {
        problem: "this row is plain text, but only a chat says which tokens are the assistant's".to_owned(),
    }
}
