//! The estimate for a terminal.

use super::{Estimate, Memory, OnCard};
use crate::summary::{counted, grouped};
use std::fmt::Write;

impl Estimate {
    /// The estimate in lines for people.
    pub(super) fn to_text(&self) -> String {
        let mut text = format!(
            "{:.1}M weights, {} of GaLore; full batches of {} tokens, {} a step\n",
            self.num_parameters as f64 / 1e6,
            counted(self.num_targets, "target"),
            grouped(usize::try_from(self.batch_tokens).unwrap_or(usize::MAX)),
            counted(usize::try_from(self.micro_batches).unwrap_or(usize::MAX), "micro-batch")
                .replace("batchs", "batches"),
        );
        if let [only] = &self.cards[..] {
            text += &parts(&only.memory);
        }
        let _ = writeln!(
            text,
            "\n{:<10} {:>9} {:>9}  {:<24} {:>9} {:>11}",
            "card", "usable", "peak", "computed again", "step", "tokens/s"
        );
        for card in &self.cards {
            text += &line(card);
        }
        text + "\nMemory follows from shapes. Times are fitted to an H100 and are guesses on other cards; steps with a \
                refresh of GaLore's subspaces, evaluations and the first step take longer.\n"
    }
}

fn line(card: &OnCard) -> String {
    let OnCard { card: name, usable_bytes, memory, fits, recomputed, step_ms, tokens_per_second, to_fit } = card;
    let (usable, peak) = (gigabytes(*usable_bytes), gigabytes(memory.total()));
    if *fits {
        let pace = grouped(*tokens_per_second as usize);
        return format!("{name:<10} {usable:>9} {peak:>9}  {recomputed:<24} {step_ms:>6.0} ms {pace:>11}\n");
    }
    let remedy = match to_fit {
        Some(options) => format!("does not fit; it would with {}", options.join(", ")),
        None => "does not fit, whatever the options".to_owned(),
    };
    format!("{name:<10} {usable:>9} {peak:>9}  {remedy}\n")
}

fn parts(memory: &Memory) -> String {
    let Memory { weights, gradients, hidden_bits, moments, bases, activations, head_and_buffers } = *memory;
    let mut text = "memory at the peak:\n".to_owned();
    for (name, bytes) in [
        ("weights", weights),
        ("gradients", gradients),
        ("hidden bits of the weights", hidden_bits),
        ("Adam's moments", moments),
        ("GaLore's bases", bases),
        ("kept for the backward", activations),
        ("logits of a chunk, buffers", head_and_buffers),
        ("together", memory.total()),
    ] {
        if bytes > 0 {
            let _ = writeln!(text, "  {name:<28} {:>9}", gigabytes(bytes));
        }
    }
    text
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}
