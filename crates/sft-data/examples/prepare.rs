//! Reads a dataset, prepares it for training, and shows the first batch:
//!
//! ```text
//! cargo run -p sft-data --example prepare -- <dataset: a file or a folder> <folder with a tokenizer>
//! ```

use sft_data::{
    ChatTokenizer, DatasetConfig, Evaluation, LocalFiles, PrepareConfig, SpecialTokensInText, collate, epoch_order,
    load_splits, prepare,
};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dataset, tokenizer] = arguments.as_slice() else {
        return Err("usage: prepare <dataset> <folder with a tokenizer>".into());
    };
    let config =
        DatasetConfig { dataset_name: dataset.clone(), evaluation: Evaluation::Optional, ..DatasetConfig::default() };
    let splits = load_splits(&config, &LocalFiles)?;
    println!("{}: {} rows to train on", splits.source, splits.train.len());

    let tokenizer = ChatTokenizer::from_dir(Path::new(tokenizer))?;
    let prepared = prepare(&splits.train, &tokenizer, &PrepareConfig::default())?;
    println!("{:#?}", prepared.report);

    let order = epoch_order(prepared.examples.len(), 42);
    let examples: Vec<_> = order.iter().take(8).map(|&row| &prepared.examples[row]).collect();
    let batch = collate(&examples);
    println!("first batch: {} rows, {} tokens, lengths {:?}", batch.num_rows, batch.num_tokens(), batch.lengths);
    println!("its first row:\n{}", tokenizer.decode(&examples[0].input_ids, SpecialTokensInText::Keep)?);
    Ok(())
}
