//! The answer as a page.

use super::text::about;
use super::{DataInspection, SplitInspection};
use crate::summary::{grouped, split_line};
use run_reports::markup::{Words, card, escaped, framed};
use sft_data::Lengths;
use std::fmt::Write;

impl DataInspection {
    /// The answer as a page without links, in the style of the report of a run.
    pub(super) fn to_html(&self) -> String {
        let mut body = format!("<p class=\"soft\">{}</p>", escaped(&self.source));
        if !self.unused_columns.is_empty() {
            let words = Words("columns not used", "未使用的列").html();
            let _ = write!(body, "<p class=\"soft\">{words}: {}</p>", escaped(&self.unused_columns.join(", ")));
        }
        let learnt = Words("learnt", "学习").html();
        let masked = Words("not learnt", "不学习").html();
        let special = Words("special token", "特殊词元").html();
        let cut = Words("cut off", "被截掉").html();
        let _ = write!(
            body,
            "<p><span class=\"learnt\">{learnt}</span> · <span class=\"masked\">{masked}</span> · \
             <span class=\"special\">{special}</span> · <span class=\"cut\">{cut}</span></p>"
        );
        for split in &self.splits {
            body += &split_html(split);
        }
        framed("inspect", &escaped(&self.splits.iter().map(|split| &*split.name).collect::<Vec<_>>().join(", ")), &body)
    }
}

fn split_html(split: &SplitInspection) -> String {
    let inspection = &split.inspection;
    let mut content = format!("<p>{}</p>", escaped(&split_line(&split.name, &inspection.report)));
    let share = Words("of the tokens are learnt", "的词元会被学习").html();
    let _ = write!(
        content,
        "<p>{:.1} % {share}</p>{}",
        inspection.supervised_share * 100.0,
        histogram(&inspection.lengths)
    );
    for problem in &inspection.problems {
        let _ = write!(content, "<p>row {}: {}</p>", problem.row, escaped(&problem.problem));
    }
    for row in &inspection.rows {
        let _ = write!(content, "<p class=\"soft\">row {}: {}</p><pre>", row.row, about(row));
        for span in &row.spans {
            let mut classes = vec![if span.is_learnt { "learnt" } else { "masked" }];
            classes.extend(span.is_special.then_some("special"));
            classes.extend(span.is_cut.then_some("cut"));
            let _ = write!(content, "<span class=\"{}\">{}</span>", classes.join(" "), escaped(&span.text));
        }
        content += "</pre>";
        for note in &row.notes {
            let _ = write!(content, "<p class=\"soft\">{}</p>", escaped(note));
        }
    }
    let title = if split.format.is_some() { Words("Rows", "数据行") } else { Words("No rows", "没有数据行") };
    card(title, &content)
}

/// Rows by their lengths, as bars.
fn histogram(lengths: &Lengths) -> String {
    const ROW: usize = 22;
    let most = lengths.histogram.iter().map(|bucket| bucket.rows).max().unwrap_or(1).max(1);
    let height = ROW * lengths.histogram.len();
    let mut svg = format!("<svg viewBox=\"0 0 640 {height}\" style=\"max-width: 640px\" role=\"img\">");
    for (index, bucket) in lengths.histogram.iter().enumerate() {
        let (top, width) = (index * ROW, bucket.rows * 400 / most + 1);
        let _ = write!(
            svg,
            "<text class=\"y\" x=\"130\" y=\"{}\">{}–{}</text><rect class=\"bar\" x=\"140\" y=\"{}\" width=\"{width}\" \
             height=\"14\" rx=\"2\"/><text x=\"{}\" y=\"{}\">{}</text>",
            top + 15,
            grouped(bucket.from),
            grouped(bucket.to),
            top + 4,
            148 + width,
            top + 15,
            grouped(bucket.rows)
        );
    }
    let Lengths { min, max, mean, median, percentile_95, .. } = lengths;
    let figures = format!("{min}–{max}, ⌀ {mean:.0}, 50 % ≤ {median}, 95 % ≤ {percentile_95}");
    format!("<p class=\"soft\">{}: {figures}</p>{svg}</svg>", Words("tokens a row", "每行词元数").html())
}
