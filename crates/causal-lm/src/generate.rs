//! Continuing a prompt, to see what a model has learned.
//!
//! There is no cache: the whole sequence runs again for each token. This is for short samples, not
//! for serving.

use crate::{CausalLm, Error, TokenBatch};
use tch::Kind;

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Stop after this many tokens. Default: 64.
    pub max_new_tokens: usize,
    /// 0, the default, takes the likeliest token; higher values give more varied text.
    pub temperature: f64,
    /// Choose among the likeliest tokens that together reach this probability (arXiv 1904.09751).
    /// 1, the default, keeps all tokens.
    pub top_p: f64,
    /// Stop after any of these. Default: none.
    pub eos_token_ids: Vec<i64>,
    /// The same seed gives the same text. Default: 42.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { max_new_tokens: 64, temperature: 0.0, top_p: 1.0, eos_token_ids: Vec::new(), seed: 42 }
    }
}

impl CausalLm {
    /// Token ids that follow `prompt`, including the end token if one was reached.
    ///
    /// # Errors
    /// [`Error::Shape`] for an empty prompt or ids past the vocabulary, [`Error::Torch`] from
    /// libtorch.
    pub fn generate(&self, prompt: &[i64], options: &SamplingOptions) -> Result<Vec<i64>, Error> {
        let mut ids = prompt.to_vec();
        let mut random = SplitMix(options.seed);
        for _ in 0..options.max_new_tokens {
            let no_targets = vec![-1; ids.len()];
            let batch = TokenBatch::new(&ids, &no_targets, &[ids.len()], self.options().device)?;
            let logits = Vec::<f32>::try_from(self.last_logits(&batch)?.f_to_kind(Kind::Float)?)?;
            let next = choose(&logits, options, random.next());
            ids.push(next);
            if options.eos_token_ids.contains(&next) {
                break;
            }
        }
        Ok(ids.split_off(prompt.len()))
    }
}

/// The token that a uniform number in [0, 1) selects.
fn choose(logits: &[f32], options: &SamplingOptions, uniform: f64) -> i64 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // The sort is stable: of equal logits the lower id wins, as with argmax.
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let Some(first) = order.first().copied() else { return 0 };
    if options.temperature <= 0.0 {
        return i64::try_from(first).unwrap_or(0);
    }
    let weight = |token: usize| (f64::from(logits[token] - logits[first]) / options.temperature).exp();
    let total: f64 = order.iter().map(|token| weight(*token)).sum();
    let mut nucleus = 0;
    let mut mass = 0.0;
    while nucleus < order.len() && mass < options.top_p * total {
        mass += weight(order[nucleus]);
        nucleus += 1;
    }
    let mut remaining = uniform * mass;
    for token in &order[..nucleus.max(1)] {
        remaining -= weight(*token);
        if remaining < 0.0 {
            return i64::try_from(*token).unwrap_or(0);
        }
    }
    i64::try_from(first).unwrap_or(0)
}

/// SplitMix64 (Steele et al., 2014). It is good enough for picking tokens, and gives the same
/// numbers on every machine.
struct SplitMix(u64);

impl SplitMix {
    /// Uniform in [0, 1).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_and_nucleus_shape_the_distribution() {
        let logits = [0.0, (3.0f32).ln(), f32::NEG_INFINITY, (6.0f32).ln()]; // probabilities 0.1, 0.3, 0, 0.6
        let with = |temperature, top_p| SamplingOptions { temperature, top_p, ..Default::default() };
        assert_eq!(choose(&logits, &with(0.0, 1.0), 0.99), 3);
        let counts = |options: &SamplingOptions| {
            let mut counts = [0; 4];
            let mut random = SplitMix(7);
            for _ in 0..10_000 {
                counts[choose(&logits, options, random.next()) as usize] += 1;
            }
            counts
        };
        let all = counts(&with(1.0, 1.0));
        assert!((all[0] - 1000i32).abs() < 150 && (all[1] - 3000).abs() < 200 && all[2] == 0, "{all:?}");
        let nucleus = counts(&with(1.0, 0.8));
        assert!(nucleus[0] == 0 && (nucleus[1] - 3333).abs() < 200, "{nucleus:?}");
        assert_eq!(counts(&with(1.0, 0.5)), [0, 0, 0, 10_000]);
    }
}
