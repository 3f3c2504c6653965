use super::*;
use crate::testing::{tokenizer, tokenizer_with_template};
use crate::{Conversation, Dropped, TrainOn, TruncationMode};
use serde_json::json;

fn chat() -> Row {
    Row::from(Conversation::from(vec![
        json!({"role": "user", "content": "今天?"}),
        json!({"role": "assistant", "content": "Hello! 🙂"}),
    ]))
}

fn one(row: Row, config: &PrepareConfig) -> InspectedRow {
    inspect(&[row], &tokenizer("qwen"), config, 1).unwrap().rows.remove(0)
}

#[test]
fn what_is_learnt_can_be_read() {
    let config = PrepareConfig { train_on: Some(TrainOn::Assistant), ..PrepareConfig::default() };
    let row = one(chat(), &config);
    let text: String = row.spans.iter().map(|span| span.text.as_str()).collect();
    assert!(
        text.ends_with("<|im_start|>user\n今天?<|im_end|>\n<|im_start|>assistant\nHello! 🙂<|im_end|>\n"),
        "{text}"
    );
    let learnt: Vec<&str> = row.spans.iter().filter(|span| span.is_learnt).map(|span| span.text.as_str()).collect();
    assert_eq!(learnt, ["Hello! 🙂", "<|im_end|>"]);
    assert_eq!((row.end_token, row.outcome), (EndToken::Learnt, Outcome::Kept));
    assert!(row.spans.iter().all(|span| !span.is_special || span.num_tokens == 1));
    assert_eq!(row.spans.iter().map(|span| span.num_tokens).sum::<usize>(), row.num_tokens);
}

#[test]
fn spaces_stay_where_a_decoder_strips_the_start_of_a_text() {
    let row = Row::from("The harbour lights came on.");
    let inspection = inspect(&[row], &tokenizer("llama"), &PrepareConfig::default(), 1).unwrap();
    let text: String = inspection.rows[0].spans.iter().map(|span| span.text.as_str()).collect();
    assert_eq!(text.trim(), "<s> The harbour lights came on.</s>");
}

#[test]
fn what_truncation_cuts_is_shown() {
    let config = |truncation_mode| PrepareConfig { max_length: Some(6), truncation_mode, ..PrepareConfig::default() };
    let row = || Row::from("The harbour lights came on one after another.");
    for (mode, end_token) in
        [(TruncationMode::KeepStart, EndToken::Missing), (TruncationMode::KeepEnd, EndToken::Learnt)]
    {
        let inspected = one(row(), &config(mode));
        let num_cut: usize = inspected.spans.iter().filter(|span| span.is_cut).map(|span| span.num_tokens).sum();
        assert_eq!(inspected.num_tokens - num_cut, 6);
        assert_eq!(inspected.outcome, Outcome::Cut { num_tokens: num_cut });
        assert_eq!(inspected.end_token, end_token, "{mode}");
    }
    let outcome = one(row(), &config(TruncationMode::Drop)).outcome;
    assert_eq!(outcome, Outcome::Dropped { reason: Dropped::TooLong });
    let whole = one(row(), &config(TruncationMode::Split));
    assert_eq!(whole.outcome, Outcome::Split { examples: whole.num_tokens.div_ceil(6) });
}

#[test]
fn the_report_is_that_of_prepare_and_bad_rows_are_listed() {
    let rows: Vec<Row> = (0..50).map(|index| Row::from("word ".repeat(index))).collect();
    let config = PrepareConfig { max_length: Some(40), packing: true, ..PrepareConfig::default() };
    let tokenizer = tokenizer("qwen");
    let inspection = inspect(&rows, &tokenizer, &config, 3).unwrap();
    assert_eq!(inspection.report, crate::prepare(&rows, &tokenizer, &config).unwrap().report);
    assert_eq!((inspection.rows.len(), inspection.num_problems), (3, 0));
    assert_eq!(inspection.lengths.histogram.iter().map(|bucket| bucket.rows).sum::<usize>(), 50);
    assert!(inspection.supervised_share > 0.9, "{}", inspection.supervised_share);

    let template = "{% for m in messages %}{{ raise_exception('no roles') }}{% endfor %}";
    let rows = [Row::from("fine"), chat(), chat()];
    let inspection = inspect(&rows, &tokenizer_with_template("qwen", template), &PrepareConfig::default(), 9).unwrap();
    assert_eq!((inspection.report.rows, inspection.report.kept, inspection.num_problems), (3, 1, 2));
    assert_eq!(inspection.problems[0].row, 2);
    assert!(inspection.problems[0].problem.contains("no roles"), "{}", inspection.problems[0].problem);
}

#[test]
fn lengths_are_summed_up() {
    let lengths = Lengths::of(vec![8, 1, 3, 2, 20]);
    assert_eq!((lengths.min, lengths.max, lengths.median, lengths.percentile_95), (1, 20, 3, 20));
    assert!((lengths.mean - 6.8).abs() < 1e-9);
    let buckets: Vec<(usize, usize, usize)> = lengths.histogram.iter().map(|b| (b.from, b.to, b.rows)).collect();
    assert_eq!(buckets, [(1, 1, 1), (2, 3, 2), (4, 7, 0), (8, 15, 1), (16, 31, 1)]);
    assert_eq!(Lengths::of(vec![]).max, 0);
    assert_eq!(Lengths::of(vec![0]).histogram, [LengthBucket { from: 0, to: 0, rows: 1 }]);
}
