//! One row as it will be learnt.

use crate::prepare::{Dropped, Fitted, Plan, TokenRow, TruncationMode, fit};
use crate::{ChatTokenizer, Error, SpecialTokensInText};
use serde::Serialize;

/// One row as it will be learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedRow {
    /// Its number, counted from 1 in the order in which the rows were given.
    pub row: u64,
    /// The whole text in stretches, in order. Together they are the text that the tokens stand for.
    pub spans: Vec<Span>,
    /// Number of tokens, before anything is cut off.
    pub num_tokens: usize,
    /// Number of tokens that count in the loss, before anything is cut off.
    pub num_learnt: usize,
    /// Whether the row ends with the end-of-sequence token, and whether that is learnt.
    pub end_token: EndToken,
    /// What becomes of the row.
    pub outcome: Outcome,
    /// What a person should know about the row, in sentences.
    pub notes: Vec<String>,
}

/// A stretch of text, all of which is treated alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The text, with special tokens.
    pub text: String,
    /// Number of tokens.
    pub num_tokens: usize,
    /// Whether the tokens count in the loss. The first token of a row never does, because nothing
    /// predicts it.
    pub is_learnt: bool,
    /// Whether it is one special token, such as EOS.
    pub is_special: bool,
    /// Whether `max_length` cuts it off.
    pub is_cut: bool,
}

/// What a row ends with. It is looked for in what is left of the row after cutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndToken {
    /// The last learnt token is the end-of-sequence token: the model learns to stop.
    Learnt,
    /// The end-of-sequence token is there, but it is not learnt after what is learnt last.
    Masked,
    /// There is none.
    Missing,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It stays whole.
    Kept,
    /// Tokens are cut off.
    Cut {
        /// Their number.
        num_tokens: usize,
    },
    /// It becomes several examples.
    Split {
        /// Their number.
        examples: usize,
    },
    /// It is in no example.
    Dropped {
        /// Why.
        reason: Dropped,
    },
}

/// How a token is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Treatment {
    is_learnt: bool,
    is_special: bool,
    is_cut: bool,
}

pub(super) fn inspect(row: &TokenRow, tokenizer: &ChatTokenizer, plan: &Plan) -> Result<InspectedRow, Error> {
    let outcome = match fit(row.clone(), plan) {
        Fitted::Whole(_) => Outcome::Kept,
        Fitted::Cut { num_tokens, .. } => Outcome::Cut { num_tokens },
        Fitted::Pieces { rows, .. } => Outcome::Split { examples: rows.len() },
        Fitted::Dropped(reason) => Outcome::Dropped { reason },
    };
    let length = row.input_ids.len();
    let left = match plan.limit {
        Some((limit, TruncationMode::KeepStart)) => 0..limit.min(length),
        Some((limit, TruncationMode::KeepEnd)) => length.saturating_sub(limit)..length,
        Some((_, TruncationMode::Drop | TruncationMode::Split)) | None => 0..length,
    };
    let mut treatments = vec![Treatment { is_learnt: false, is_special: false, is_cut: false }; length];
    for (position, (treatment, &id)) in treatments.iter_mut().zip(&row.input_ids).enumerate() {
        treatment.is_learnt = position != 0 && row.labels.is_none();
        treatment.is_special = tokenizer.is_special(id);
        treatment.is_cut = !left.contains(&position);
    }
    for range in row.labels.iter().flat_map(|labels| labels.ranges()) {
        let range = range.start.max(1) as usize..range.end as usize;
        treatments.get_mut(range).unwrap_or_default().iter_mut().for_each(|treatment| treatment.is_learnt = true);
    }
    let kept = treatments.get(left.clone()).unwrap_or_default();
    let end_token = end_token(row.input_ids.get(left).unwrap_or_default(), kept, tokenizer.eos_token_id());
    let mut notes = Vec::new();
    if row.prompt_parts_early {
        notes.push("the prompt alone is not tokenized as the start of prompt and completion".to_owned());
    }
    if row.leaves_out_reasoning {
        notes.push("the chat template leaves out reasoning that a message has as `reasoning_content`".to_owned());
    }
    Ok(InspectedRow {
        row: row.number,
        spans: spans(row, &treatments, tokenizer)?,
        num_tokens: length,
        num_learnt: treatments.iter().filter(|treatment| treatment.is_learnt).count(),
        end_token,
        outcome,
        notes,
    })
}

fn end_token(ids: &[u32], treatments: &[Treatment], eos: u32) -> EndToken {
    let last_learnt = treatments.iter().rposition(|treatment| treatment.is_learnt);
    let ends = ids.iter().skip(last_learnt.unwrap_or_default()).any(|&id| id == eos);
    match last_learnt.and_then(|position| ids.get(position)) {
        Some(&id) if id == eos => EndToken::Learnt,
        _ if ends => EndToken::Masked,
        _ => EndToken::Missing,
    }
}

/// The text of a stretch is what it adds to the text before it: decoders treat the start of a text
/// in a way of its own, and a character may take several tokens.
fn spans(row: &TokenRow, treatments: &[Treatment], tokenizer: &ChatTokenizer) -> Result<Vec<Span>, Error> {
    let mut spans: Vec<Span> = Vec::new();
    let mut before = String::new();
    let mut start = 0;
    for stretch in treatments.chunk_by(|a, b| a == b && !a.is_special) {
        let end = start + stretch.len();
        let Some(&Treatment { is_learnt, is_special, is_cut }) = stretch.first() else { continue };
        let text = match before.len() {
            0..=SHORT => {
                let so_far =
                    tokenizer.decode(row.input_ids.get(..end).unwrap_or_default(), SpecialTokensInText::Keep)?;
                let common = common_prefix(&before, &so_far);
                let added = so_far.get(common..).unwrap_or_default().to_owned();
                before = so_far;
                added
            }
            // To decode a long text once for each stretch would take too long.
            _ => tokenizer.decode(row.input_ids.get(start..end).unwrap_or_default(), SpecialTokensInText::Keep)?,
        };
        spans.push(Span { text, num_tokens: stretch.len(), is_learnt, is_special, is_cut });
        start = end;
    }
    Ok(spans)
}

/// Texts up to this many bytes are decoded from their start for each stretch.
const SHORT: usize = 100_000;

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}
