use super::*;
use sft_data::{EndToken, InspectedRow, LengthBucket, Lengths, Outcome, PrepareReport, Span};

fn span(text: &str, is_learnt: bool, is_cut: bool) -> Span {
    Span { text: text.to_owned(), num_tokens: 2, is_learnt, is_special: false, is_cut }
}

/// One row: masked, learnt over two lines with a bell, cut off.
fn inspected() -> DataInspection {
    let row = InspectedRow {
        row: 7,
        spans: vec![span("<ask>", false, false), span("one\ntwo\u{7}", true, false), span("rest", true, true)],
        num_tokens: 6,
        num_learnt: 4,
        end_token: EndToken::Missing,
        outcome: Outcome::Cut { num_tokens: 2 },
        notes: Vec::new(),
    };
    let lengths = Lengths {
        min: 6,
        max: 6,
        mean: 6.0,
        median: 6,
        percentile_95: 6,
        histogram: vec![LengthBucket { from: 5, to: 8, rows: 1 }],
    };
    let report = PrepareReport { rows: 1, kept: 1, examples: 1, tokens: 4, target_tokens: 2, ..Default::default() };
    let inspection =
        Inspection { report, supervised_share: 0.5, lengths, rows: vec![row], problems: Vec::new(), num_problems: 0 };
    let split = SplitInspection { name: "train".to_owned(), format: Some("text"), inspection };
    DataInspection {
        source: "dataset: d".to_owned(),
        unused_columns: Vec::new(),
        max_length: Some(4),
        splits: vec![split],
    }
}

#[test]
fn what_is_learnt_is_told_from_what_is_not() {
    let plain = inspected().text(Colours::None);
    assert!(plain.contains("<ask>[[one\ntwo\\u{7}]]{{rest}}\n"), "{plain}");
    assert!(
        plain.contains("train row 7: 6 tokens, 4 of them learnt; 2 tokens cut off; there is NO end token"),
        "{plain}"
    );
    assert!(plain.contains("learnt: 50.0 % of the tokens") && plain.contains("above max_length"), "{plain}");
    assert!(!plain.contains('\u{1b}'));
    let coloured = inspected().text(Colours::Terminal);
    let row =
        "\u{1b}[2m<ask>\u{1b}[0m\u{1b}[1;32mone\u{1b}[0m\n\u{1b}[1;32mtwo\\u{7}\u{1b}[0m\u{1b}[1;32;9;31mrest\u{1b}[0m";
    assert!(coloured.contains(row), "{coloured}");
    let html = inspected().html().unwrap();
    assert!(html.contains("<span class=\"masked\">&lt;ask&gt;</span><span class=\"learnt\">one\ntwo"), "{html}");
    assert!(html.contains("<span class=\"learnt cut\">rest</span>"));
    let json = serde_json::to_value(inspected()).unwrap();
    assert_eq!(json["splits"][0]["rows"][0]["spans"][1]["is_learnt"], true);
    assert_eq!(json["splits"][0]["supervised_share"], 0.5);
}

#[test]
fn rows_keep_their_numbers() {
    assert_eq!([1, 2, 3].map(|row| original_number(row, Some(&[4, 9]))), [4, 9, 3]);
    assert_eq!(original_number(5, None), 5);
}
