//! How a row is brought to the length that an example may have.

use super::config::{Plan, TruncationMode};
use super::tokenize::TokenRow;
use serde::Serialize;

/// Why a row is in no example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dropped {
    /// It has no target: no text, or nothing in it counts in the loss.
    NoTarget,
    /// It is longer than `max_length`, and every target was cut off.
    TargetsCutOff,
    /// It is longer than `max_length`, and `truncation_mode` is `drop`.
    TooLong,
}

/// What became of a row.
#[derive(Debug)]
pub(crate) enum Fitted {
    Whole(TokenRow),
    /// Tokens were cut off.
    Cut {
        row: TokenRow,
        num_tokens: usize,
    },
    /// The row was split. Pieces without a target are left out, and their tokens counted.
    Pieces {
        rows: Vec<TokenRow>,
        left_out: usize,
    },
    Dropped(Dropped),
}

pub(crate) fn fit(row: TokenRow, plan: &Plan) -> Fitted {
    if row.num_targets() == 0 {
        return Fitted::Dropped(Dropped::NoTarget);
    }
    let length = row.input_ids.len();
    let Some((limit, mode)) = plan.limit.filter(|(limit, _)| length > *limit) else {
        return Fitted::Whole(row);
    };
    let row = match mode {
        TruncationMode::KeepStart => row.part(0..limit),
        TruncationMode::KeepEnd => row.part(length - limit..length),
        TruncationMode::Drop => return Fitted::Dropped(Dropped::TooLong),
        TruncationMode::Split => return pieces(&row, limit),
    };
    match row.num_targets() {
        0 => Fitted::Dropped(Dropped::TargetsCutOff),
        _ => Fitted::Cut { row, num_tokens: length - limit },
    }
}

fn pieces(row: &TokenRow, limit: usize) -> Fitted {
    let length = row.input_ids.len();
    let pieces = (0..length).step_by(limit).map(|start| row.part(start..(start + limit).min(length)));
    let rows: Vec<TokenRow> = pieces.filter(|piece| piece.num_targets() > 0).collect();
    let left_out = length - rows.iter().map(|piece| piece.input_ids.len()).sum::<usize>();
    match rows.is_empty() {
        true => Fitted::Dropped(Dropped::TargetsCutOff),
        false => Fitted::Pieces { rows, left_out },
    }
}
