//! Measures how fast rows become token ids, and token ids become batches.

use crate::table::{TIME, Work, head, line};
use anyhow::{Result, ensure};
use sft_data::{
    ChatTokenizer, DatasetConfig, Evaluation, LocalFiles, PrepareConfig, SpecialTokensInText, collate, epoch_order,
    load_splits, prepare,
};
use std::path::Path;
use whole_program_tests::measure::Variant;

const BATCH: usize = 8;

pub fn run(demo: &Path) -> Result<()> {
    let dataset = DatasetConfig {
        dataset_name: demo.join("dataset").display().to_string(),
        evaluation: Evaluation::Off,
        ..DatasetConfig::default()
    };
    let tokenizer = ChatTokenizer::from_dir(&demo.join("model"))?;
    let splits = load_splits(&dataset, &LocalFiles)?;
    let config = PrepareConfig { max_length: None, ..PrepareConfig::default() };
    let prepared = prepare(&splits.train, &tokenizer, &config)?;
    let num_rows = splits.train.len();
    ensure!(prepared.report.kept == num_rows, "{} of {num_rows} rows kept", prepared.report.kept);
    let text = tokenizer.decode(&prepared.examples[0].input_ids, SpecialTokensInText::Skip)?;
    ensure!(
        format!("{:?}", splits.train[0]).contains(&format!("{:?}", text.trim()).trim_matches('"').to_owned()),
        "the first row decodes to {text:?}"
    );

    let tokens = prepared.report.tokens;
    head(&format!("data: {num_rows} rows of {:.0} tokens in the mean", tokens as f64 / num_rows as f64));
    let rows = Work::thousand(num_rows as f64, "k rows/s");
    let read = || Ok(load_splits(&dataset, &LocalFiles)?);
    line("reading", rows, vec![Variant::new("JSON lines", read)], TIME / 2)?;
    let tokenise = || Ok(prepare(&splits.train, &tokenizer, &config)?);
    line("tokenising", rows, vec![Variant::new("all cores", tokenise)], TIME)?;
    let batches = || {
        let order = epoch_order(prepared.examples.len(), 42);
        let batch = |rows: &[usize]| collate(&rows.iter().map(|&row| &prepared.examples[row]).collect::<Vec<_>>());
        let found: usize = order.chunks(BATCH).map(|rows| batch(rows).num_tokens()).sum();
        ensure!(found == tokens, "{found} of {tokens} tokens in the batches");
        Ok(())
    };
    line(
        "shuffling and batches of 8",
        Work { amount: tokens as f64 / 1e6, unit: "M tokens/s" },
        vec![Variant::new("laid end to end", batches)],
        TIME / 2,
    )
}
