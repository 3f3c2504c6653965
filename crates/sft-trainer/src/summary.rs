//! What is told before training: what will run, on what.

use causal_lm::{CausalLm, LoadReport, WeightDtype};
use indicatif::HumanCount;
use sft_data::{PrepareReport, Splits};
use tch::{Device, Kind};
use tracing::{info, warn};
use trainer_core::TrainingArguments;

/// A number with thousands set apart.
pub(crate) fn grouped(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

/// A number with the name of what it counts: `1 row`, `2 rows`.
pub(crate) fn counted(number: usize, name: &str) -> String {
    format!("{} {name}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// One split: rows kept, cut and left out, and tokens.
pub(crate) fn split_line(name: &str, report: &PrepareReport) -> String {
    let PrepareReport { rows, kept, truncated, truncated_tokens, dropped_empty, dropped_truncated, .. } = report;
    let mut line = format!("{name}: {} of {}", grouped(*kept), counted(*rows, "row"));
    if report.examples != *kept {
        let how = if report.split > 0 { "made into" } else { "packed into" };
        line += &format!(", {how} {}", grouped(report.examples));
    }
    line += &format!(", {}, {} of them targets", counted(report.tokens, "token"), grouped(report.target_tokens));
    if *truncated > 0 {
        let (rows, tokens) = (counted(*truncated, "row"), counted(*truncated_tokens, "token"));
        line += &format!("; {rows} truncated ({tokens} cut off)");
    }
    if *dropped_empty > 0 {
        line += &format!("; {} dropped as empty", grouped(*dropped_empty));
    }
    if *dropped_truncated > 0 {
        line += &format!("; {} dropped because truncation left no target", grouped(*dropped_truncated));
    }
    if report.dropped_too_long > 0 {
        line += &format!("; {} dropped as too long", grouped(report.dropped_too_long));
    }
    if report.split > 0 {
        let (rows, tokens) = (counted(report.split, "row"), counted(report.split_left_out_tokens, "token"));
        line += &format!("; {rows} split ({tokens} in pieces without a target left out)");
    }
    line
}

/// The beginning and, if it is long, the end of a decoded example, on one line.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 120;
    let escaped: Vec<char> =
        text.escape_debug().collect::<String>().replace("\\'", "'").replace("\\\"", "\"").chars().collect();
    if escaped.len() <= 2 * SHOWN {
        return escaped.into_iter().collect();
    }
    let (head, tail) = (&escaped[..SHOWN], &escaped[escaped.len() - SHOWN..]);
    format!("{} … {}", head.iter().collect::<String>(), tail.iter().collect::<String>())
}

/// Where the rows came from.
pub(crate) fn source_line(splits: &Splits) -> String {
    match &splits.eval_name {
        Some(eval) => {
            format!("dataset: {}, split {} to train on, {eval} to evaluate on", splits.source, splits.train_name)
        }
        None => format!("dataset: {}, split {} to train on, no evaluation", splits.source, splits.train_name),
    }
}

/// Columns that nothing is taken from, if there are any.
pub(crate) fn unused_columns_line(splits: &Splits) -> Option<String> {
    const SHOWN: usize = 20;
    let names = &splits.unused_columns;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => None,
        1..=SHOWN => Some(format!("columns not used: {shown}")),
        all => Some(format!("columns not used: {shown} and {} more", all - SHOWN)),
    }
}

/// A type by the name that config.json gives it.
fn dtype_name(kind: Kind) -> String {
    WeightDtype::from_kind(kind).map_or_else(|| format!("{kind:?}"), |dtype| dtype.to_string())
}

/// The model, and what in its files is unusual.
pub(crate) fn tell_model(model: &CausalLm, report: &LoadReport) {
    let config = model.config();
    info!(
        "model: {:?}, {:.1}M parameters, {} of width {}, vocabulary {}; weights in {}, arithmetic in {} on {}",
        config.family,
        model.parameters().num_parameters() as f64 / 1e6,
        counted(config.num_hidden_layers, "layer"),
        config.hidden_size,
        config.vocab_size,
        dtype_name(model.parameters().flat_weights().kind()),
        dtype_name(model.compute_dtype()),
        match model.options().device {
            Device::Cuda(index) => format!("GPU {index}"),
            Device::Cpu => "the CPU".to_owned(),
            other => format!("{other:?}"),
        }
    );
    if !report.extra_tensors.is_empty() {
        info!("tensors in the files that the model does not use: {}", report.extra_tensors.join(", "));
    }
    if !report.ignored_fields.is_empty() {
        warn!("config.json has settings that are not known or not used: {}", report.ignored_fields.join(", "));
    }
    if report.head_untied {
        info!("lm_head.weight differs from the embedding: they are not tied, although config.json ties them");
    }
}

/// What a step is made of, and where it goes.
pub(crate) fn tell_training(training: &TrainingArguments) {
    let TrainingArguments { per_device_train_batch_size, gradient_accumulation_steps, .. } = training;
    info!(
        "training: {} rows a step ({per_device_train_batch_size} × {gradient_accumulation_steps}), learning rate {:e} {}, \
         saving to {}",
        per_device_train_batch_size * gradient_accumulation_steps,
        training.learning_rate,
        training.lr_scheduler_type,
        training.output_dir.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_stay_readable() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(grouped).each_ref().map(String::as_str)
        );
        assert_eq!(excerpt("a\nb \"c\" 'd' 你好"), "a\\nb \"c\" 'd' 你好");
        let long = excerpt(&"x".repeat(1000));
        assert_eq!(long.chars().count(), 243);
        assert_eq!([0, 1, 2000].map(|number| counted(number, "row")), ["0 rows", "1 row", "2,000 rows"]);
        let report = PrepareReport {
            rows: 5,
            kept: 3,
            truncated: 1,
            truncated_tokens: 9,
            dropped_empty: 2,
            examples: 3,
            tokens: 1234,
            target_tokens: 1200,
            ..Default::default()
        };
        assert_eq!(
            split_line("train", &report),
            "train: 3 of 5 rows, 1,234 tokens, 1,200 of them targets; 1 row truncated (9 tokens cut off); 2 dropped as empty"
        );
    }
}
