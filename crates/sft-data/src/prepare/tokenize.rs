//! Turns one row into token ids and labels.

use super::config::{Learn, LossOn, Thinking, TrainOnEos};
use super::{Labels, alpaca, learn, left_out, num_targets};
use crate::tokenizer::AddGenerationPrompt;
use crate::{AddSpecialTokens, ChatContext, ChatTokenizer, Error, PromptCompletion, Row, TokenizedRow, Turn};
use serde_json::Value;
use std::ops::Range;

/// Token ids and labels of one row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TokenRow {
    pub(crate) input_ids: Vec<u32>,
    /// `None` if every token counts.
    pub(crate) labels: Option<Labels>,
    /// The number of the row, counted from 1.
    pub(crate) number: u64,
    /// Whether the prompt alone is not tokenized as the start of prompt and completion.
    pub(crate) prompt_parts_early: bool,
    /// Whether the chat template leaves out reasoning that a message has in a key of its own.
    pub(crate) leaves_out_reasoning: bool,
    /// Whether a column says which tokens are the completion, and nothing says to use it.
    pub(crate) ignores_completion_mask: bool,
}

impl TokenRow {
    pub(crate) fn num_targets(&self) -> usize {
        num_targets(0..self.input_ids.len(), self.labels.as_ref())
    }

    /// A row of only these tokens.
    pub(crate) fn part(&self, tokens: Range<usize>) -> Self {
        Self {
            input_ids: self.input_ids.get(tokens.clone()).unwrap_or_default().to_vec(),
            labels: self.labels.as_ref().map(|labels| labels.part(tokens)),
            ..*self
        }
    }

    fn masked(input_ids: Vec<u32>, counts: impl Fn(usize) -> bool) -> Self {
        let labels = (0..input_ids.len()).map(counts).collect();
        Self { input_ids, labels: Some(labels), ..Self::default() }
    }
}

pub(crate) fn tokenize(row: &Row, tokenizer: &ChatTokenizer, learn: Learn) -> Result<TokenRow, Error> {
    let not_a_chat = || match learn.on {
        LossOn::Completion => Err(Error::NotForRow {
            option: learn.option,
            problem: "only completions are to count, but this row has none; give prompt and completion".to_owned(),
        }),
        on if on.is_assistant() => Err(not_a_conversation(learn)),
        _ => Ok(()),
    };
    match row {
        Row::Text(text) => {
            not_a_chat()?;
            text_row(text, tokenizer, learn)
        }
        Row::Messages(chat) if chat.messages.is_empty() => Ok(TokenRow::default()),
        Row::Messages(chat) => {
            if learn.on == LossOn::Completion {
                not_a_chat()?;
            }
            let messages = learn.without_thinking(&chat.messages);
            let chat = tokenize_chat(&messages, &chat.context, tokenizer, learn.of_chat(&messages)?)?;
            let labels = chat.counts.map(Labels::from_iter);
            let leaves_out_reasoning = chat.leaves_out_reasoning;
            Ok(TokenRow { input_ids: chat.input_ids, labels, leaves_out_reasoning, ..TokenRow::default() })
        }
        Row::PromptCompletion(row) => prompt_completion(row, tokenizer, learn),
        Row::Alpaca(row) => {
            let (row, on) = alpaca::prompt_completion(row, tokenizer, learn.on)?;
            prompt_completion(&row, tokenizer, Learn { on, ..learn })
        }
        Row::Tokens(row) => token_ids(row, learn),
    }
}

fn text_row(text: &str, tokenizer: &ChatTokenizer, learn: Learn) -> Result<TokenRow, Error> {
    let text = learn.text_without_thinking(text);
    // EOS alone would be a row of one token, which no position predicts.
    if text.is_empty() {
        return Ok(TokenRow::default());
    }
    let text = with_eos(&text, tokenizer);
    let (input_ids, counts) = tokenize_text(&text, tokenizer, learn)?;
    Ok(TokenRow { input_ids, labels: counts.map(Labels::from_iter), ..TokenRow::default() })
}

fn prompt_completion(row: &PromptCompletion, tokenizer: &ChatTokenizer, learn: Learn) -> Result<TokenRow, Error> {
    let (prompt_ids, chat, on) = match (&row.prompt, &row.completion) {
        (Turn::Text(_), _) | (_, Turn::Text(_)) if learn.on.is_assistant() => return Err(not_a_conversation(learn)),
        (Turn::Text(prompt), Turn::Text(completion)) => {
            let completion = learn.text_without_thinking(completion);
            if completion.is_empty() {
                return Ok(TokenRow::default());
            }
            let whole = format!("{prompt}{}", with_eos(&completion, tokenizer));
            let prompt_ids = tokenizer.encode(prompt, AddSpecialTokens::Yes)?;
            let (input_ids, counts) = tokenize_text(&whole, tokenizer, learn)?;
            (prompt_ids, TokenizedChat { input_ids, counts, leaves_out_reasoning: false }, learn.on)
        }
        (Turn::Messages(prompt), Turn::Messages(completion)) => {
            if prompt.is_empty() || completion.is_empty() {
                return Ok(TokenRow::default());
            }
            let prompt = learn.without_thinking(prompt);
            let opened = tokenizer.render(&prompt, &row.context, AddGenerationPrompt::Yes)?;
            let prompt_ids = tokenizer.encode(&opened, AddSpecialTokens::No)?;
            let whole: Vec<_> = prompt.iter().chain(&*learn.without_thinking(completion)).cloned().collect();
            let learn = learn.of_chat(&whole)?;
            (prompt_ids, tokenize_chat(&whole, &row.context, tokenizer, learn)?, learn.on)
        }
        _ => return Err(Error::MixedTurns),
    };
    let TokenizedChat { input_ids, counts, leaves_out_reasoning } = chat;
    if on == LossOn::All {
        let labels = counts.map(Labels::from_iter);
        return Ok(TokenRow { input_ids, labels, leaves_out_reasoning, ..TokenRow::default() });
    }
    // This is not `prompt_ids.len()`: a template may render the prompt alone differently, and a
    // token may span the border between prompt and completion.
    let prompt_length = prompt_ids.iter().zip(&input_ids).take_while(|(a, b)| a == b).count();
    let prompt_parts_early = prompt_length < prompt_ids.len();
    let prompt_length = if on == LossOn::AssistantAnywhere { 0 } else { prompt_length };
    let row = TokenRow::masked(input_ids, |i| i >= prompt_length && counts.as_ref().is_none_or(|counts| counts[i]));
    Ok(TokenRow { prompt_parts_early, leaves_out_reasoning, ..row })
}

fn token_ids(row: &TokenizedRow, learn: Learn) -> Result<TokenRow, Error> {
    let refuse = |option, problem: &str| Err(Error::NotForRow { option, problem: problem.to_owned() });
    if learn.thinking != Thinking::Keep || learn.eos != TrainOnEos::Turn {
        let option = if learn.thinking != Thinking::Keep { "thinking" } else { "train_on_eos" };
        return refuse(option, "this row is token ids, which have no messages; leave the option out");
    }
    let TokenizedRow { input_ids, labels, completion_mask, assistant_masks } = row;
    let completion_mask = completion_mask.as_ref().filter(|_| learn.uses_completion_mask);
    match learn.on {
        _ if labels.is_some() => {}
        LossOn::Last => return refuse(learn.option, "this row is token ids, which have no turns; give `labels`"),
        on if on.is_assistant() && assistant_masks.is_none() => {
            return refuse(learn.option, "this row is token ids without `assistant_masks`; give them, or `labels`");
        }
        LossOn::Completion if completion_mask.is_none() => {
            return refuse(learn.option, "this row is token ids without a `completion_mask`; give one, or `labels`");
        }
        _ => {}
    }
    let masks = match (completion_mask, assistant_masks) {
        (Some(a), Some(b)) => Some(a.intersection(b)),
        (a, b) => a.or(b.as_ref()).cloned(),
    };
    let ignores_completion_mask =
        learn.on == LossOn::Default && labels.is_none() && row.completion_mask.is_some() && completion_mask.is_none();
    let labels = labels.clone().or(masks);
    Ok(TokenRow { input_ids: input_ids.clone(), labels, ignores_completion_mask, ..TokenRow::default() })
}

/// A chat as token ids.
struct TokenizedChat {
    input_ids: Vec<u32>,
    /// For each id whether it counts. `None` if all do.
    counts: Option<Vec<bool>>,
    leaves_out_reasoning: bool,
}

fn tokenize_chat(
    messages: &[Value],
    context: &ChatContext,
    tokenizer: &ChatTokenizer,
    learn: Learn,
) -> Result<TokenizedChat, Error> {
    if learn.needs_no_turns() {
        let text = left_out::render_whole(messages, context, tokenizer)?;
        let leaves_out_reasoning = learn::leaves_out_reasoning(messages, &text);
        let input_ids = tokenizer.encode(&text, AddSpecialTokens::No)?;
        return Ok(TokenizedChat { input_ids, counts: None, leaves_out_reasoning });
    }
    let rendered = tokenizer.render_with_turns(messages, context)?;
    left_out::check(messages, context, &rendered.text, tokenizer)?;
    let spans = learn.in_chat(messages, &rendered)?;
    let (input_ids, counts) = encode_with_spans(&rendered.text, AddSpecialTokens::No, tokenizer, &spans)?;
    let leaves_out_reasoning = learn::leaves_out_reasoning(messages, &rendered.text);
    Ok(TokenizedChat { input_ids, counts: Some(counts), leaves_out_reasoning })
}

/// The token ids of a text, and for each id whether it counts, or `None` if all do.
fn tokenize_text(text: &str, tokenizer: &ChatTokenizer, learn: Learn) -> Result<(Vec<u32>, Option<Vec<bool>>), Error> {
    match learn.in_text(text, tokenizer.eos_token()) {
        None => Ok((tokenizer.encode(text, AddSpecialTokens::Yes)?, None)),
        Some(spans) => {
            let (input_ids, counts) = encode_with_spans(text, AddSpecialTokens::Yes, tokenizer, &spans)?;
            Ok((input_ids, Some(counts)))
        }
    }
}

/// The token ids of a text, and for each id whether it is in the spans, at least in part.
fn encode_with_spans(
    text: &str,
    special: AddSpecialTokens,
    tokenizer: &ChatTokenizer,
    spans: &[Range<usize>],
) -> Result<(Vec<u32>, Vec<bool>), Error> {
    let encoding = tokenizer.encode_with_offsets(text, special)?;
    let counts = |&(start, end): &(usize, usize)| spans.iter().any(|span| overlaps(span, start..end));
    let counts = encoding.get_offsets().iter().map(counts).collect();
    Ok((encoding.get_ids().to_vec(), counts))
}

fn overlaps(a: &Range<usize>, b: Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

fn with_eos(text: &str, tokenizer: &ChatTokenizer) -> String {
    let eos = tokenizer.eos_token();
    if text.ends_with(eos) { text.to_owned() } else { format!("{text}{eos}") }
}

fn not_a_conversation(learn: Learn) -> Error {
    Error::NotForRow {
        option: learn.option,
        problem: "this row is plain text, but only a chat says which tokens are the assistant's".to_owned(),
    }
}
