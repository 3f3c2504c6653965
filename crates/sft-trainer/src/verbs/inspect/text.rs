//! The answer for a terminal.

use super::{DataInspection, SplitInspection};
use crate::summary::{counted, grouped, split_line};
use crate::terminal_text::harmless;
use crate::verbs::Colours;
use sft_data::{EndToken, InspectedRow, Lengths, Outcome, Span};
use std::fmt::Write;

/// Longest bar of the histogram.
const BAR: usize = 40;

impl DataInspection {
    /// The answer in lines for people.
    pub(super) fn to_text(&self, colours: Colours) -> String {
        let mut text = format!("{}\n", harmless(&self.source));
        if !self.unused_columns.is_empty() {
            let _ = writeln!(text, "columns not used: {}", harmless(&self.unused_columns.join(", ")));
        }
        for split in &self.splits {
            let _ = write!(text, "\n{}", split_text(split, self.max_length, colours));
        }
        if self.splits.iter().any(|split| !split.inspection.rows.is_empty()) {
            let legend = match colours {
                Colours::Terminal => {
                    let shown = |text: &str, is_learnt, is_special, is_cut| {
                        coloured(&Span { text: text.to_owned(), num_tokens: 1, is_learnt, is_special, is_cut })
                    };
                    let texts = [
                        shown("learnt", true, false, false),
                        shown("not learnt", false, false, false),
                        shown("special token", true, true, false),
                        shown("cut off", false, false, true),
                    ];
                    texts.join(", ")
                }
                Colours::None => "[[learnt]], not learnt, {{cut off}}".to_owned(),
            };
            let _ = writeln!(text, "\n{legend}");
        }
        text
    }
}

fn split_text(split: &SplitInspection, max_length: Option<usize>, colours: Colours) -> String {
    let inspection = &split.inspection;
    let format = split.format.map_or_else(String::new, |format| format!(" ({format})"));
    let mut text = format!("{}{format}\n", harmless(&split_line(&split.name, &inspection.report)));
    let _ = writeln!(text, "learnt: {:.1} % of the tokens", inspection.supervised_share * 100.0);
    text += &lengths(&inspection.lengths, max_length);
    if inspection.num_problems > 0 {
        let _ = writeln!(
            text,
            "{} cannot be prepared; the first would end a run:",
            counted(inspection.num_problems, "row")
        );
        for problem in &inspection.problems {
            let _ = writeln!(text, "  row {}: {}", problem.row, harmless(&problem.problem));
        }
    }
    for row in &inspection.rows {
        let _ = writeln!(text, "\n{} row {}: {}", harmless(&split.name), row.row, about(row));
        for note in &row.notes {
            let _ = writeln!(text, "  note: {}", harmless(note));
        }
        for span in &row.spans {
            text += &match colours {
                Colours::Terminal => coloured(span),
                Colours::None => bracketed(span),
            };
        }
        text.push('\n');
    }
    text
}

fn lengths(lengths: &Lengths, max_length: Option<usize>) -> String {
    let Lengths { min, max, mean, median, percentile_95, histogram } = lengths;
    let mut text =
        format!("tokens a row: {min} to {max}, mean {mean:.0}, median {median}, 95 % have at most {percentile_95}\n");
    let most = histogram.iter().map(|bucket| bucket.rows).max().unwrap_or(1).max(1);
    for bucket in histogram {
        let bar = (bucket.rows * BAR).div_ceil(most);
        let mark = match max_length {
            Some(limit) if limit < bucket.from => "  above max_length",
            Some(limit) if limit < bucket.to => "  partly above max_length",
            _ => "",
        };
        let range = format!("{}–{}", bucket.from, bucket.to);
        let _ = writeln!(text, "  {range:>15}  {:<BAR$} {}{mark}", "█".repeat(bar), grouped(bucket.rows));
    }
    text
}

/// What becomes of a row, in one line.
pub(super) fn about(row: &InspectedRow) -> String {
    let outcome = match row.outcome {
        Outcome::Kept => "kept whole".to_owned(),
        Outcome::Cut { num_tokens } => format!("{} cut off", counted(num_tokens, "token")),
        Outcome::Split { examples } => format!("split into {}", counted(examples, "example")),
        Outcome::Dropped { reason } => {
            let reason = serde_json::to_value(reason).ok().and_then(|reason| Some(reason.as_str()?.replace('_', " ")));
            format!("dropped ({})", reason.unwrap_or_default())
        }
    };
    let end = match row.end_token {
        EndToken::Learnt => "the end token is learnt",
        EndToken::Masked => "the end token is NOT learnt: the model will not learn to stop here",
        EndToken::Missing => "there is NO end token: the model will not learn to stop here",
    };
    format!("{}, {} of them learnt; {outcome}; {end}", counted(row.num_tokens, "token"), grouped(row.num_learnt))
}

/// Learnt green, special tokens underlined, cut off struck out, everything else dim.
fn coloured(span: &Span) -> String {
    let mut codes = vec![if span.is_learnt { "1;32" } else { "2" }];
    codes.extend(span.is_special.then_some("4"));
    codes.extend(span.is_cut.then_some("9;31"));
    // Codes end with the line: some terminals would colour the rest of the screen.
    let lines = span.text.split('\n').map(|line| match line {
        "" => String::new(),
        line => format!("\u{1b}[{}m{}\u{1b}[0m", codes.join(";"), harmless(line)),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn bracketed(span: &Span) -> String {
    let lines = span.text.split('\n').map(|line| harmless(line).into_owned()).collect::<Vec<_>>().join("\n");
    match (span.is_cut, span.is_learnt) {
        (true, _) => format!("{{{{{lines}}}}}"),
        (false, true) => format!("[[{lines}]]"),
        (false, false) => lines,
    }
}
