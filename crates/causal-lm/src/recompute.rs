//! What the backward keeps of the forward, and what it computes again.

use crate::block::Activations;
use crate::{CausalLm, Config, ParameterSpec, layout};
use serde::{Deserialize, Serialize};
use serde_plain::derive_fromstr_from_deserialize;
use std::fmt;
use tch::Kind;

/// Left free on a GPU for logits, one block's backward, the optimizer's buffers and
/// decompositions.
const GPU_RESERVE_BYTES: u64 = 2 << 30;

/// What the backward keeps of the forward.
///
/// Results do not depend on it: what is computed again has the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Everything is kept: fastest, most memory.
    None,
    /// Norms are computed again, each by one pass over memory: a seventh less memory for one
    /// percent more time.
    Cheap,
    /// Only the input of each block is kept, and the rest is computed again (Chen et al., arXiv
    /// 1604.06174): least memory, a third more arithmetic. transformers calls it gradient
    /// checkpointing.
    #[default]
    Block,
    /// As much is kept as fits in this many bytes: everything, or all but the norms of as many
    /// blocks as fit. Decided for each batch by its tokens. It has no name that could be read.
    #[serde(skip)]
    Within {
        /// For what is kept beside the blocks' inputs.
        bytes: u64,
    },
}

derive_fromstr_from_deserialize!(Recompute);

impl fmt::Display for Recompute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Within { bytes } => write!(f, "within {bytes} bytes"),
            named => f.write_str(&serde_plain::to_string(named).map_err(|_| fmt::Error)?),
        }
    }
}

/// What is kept of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    WithoutNorms,
    Input,
}

impl Recompute {
    /// What is kept of each block, in a model of `num_blocks`. `norm_bytes` is what the norms of
    /// one block take, `other_bytes` what the rest of it takes.
    pub(crate) fn plan(self, num_blocks: usize, other_bytes: u64, norm_bytes: u64) -> Vec<Kept> {
        match self {
            Recompute::None => vec![Kept::All; num_blocks],
            Recompute::Cheap => vec![Kept::WithoutNorms; num_blocks],
            Recompute::Block => vec![Kept::Input; num_blocks],
            Recompute::Within { bytes }
                if bytes / other_bytes.saturating_add(norm_bytes).max(1) >= num_blocks as u64 =>
            {
                vec![Kept::All; num_blocks]
            }
            Recompute::Within { bytes } => {
                let fit = usize::try_from(bytes / other_bytes.max(1)).unwrap_or(num_blocks).min(num_blocks);
                // The last blocks are kept. The backward has freed them before it computes the
                // first blocks again, so both are never in memory together.
                let mut plan = vec![Kept::Input; num_blocks - fit];
                plan.resize(num_blocks, Kept::WithoutNorms);
                plan
            }
        }
    }
}

/// What a model keeps of a full batch; see [`CausalLm::keep_within`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptBlocks {
    /// Blocks that are kept, with or without their norms.
    pub kept: usize,
    /// Blocks of the model.
    pub of: usize,
    /// Bytes that may be used for them.
    pub bytes: u64,
}

impl Config {
    /// Names and shapes of all weights.
    pub fn parameter_specs(&self) -> Vec<ParameterSpec> {
        layout::specs(self)
    }

    /// Bytes that the backward of a batch of `num_tokens` keeps inside the blocks, without their
    /// inputs, and those of one whole block. `compute` is the type of the arithmetic.
    pub fn kept_bytes(&self, recompute: Recompute, num_tokens: u64, compute: Kind) -> (u64, u64) {
        let parts = Activations::bytes_per_token(self, compute);
        let [other_bytes, norm_bytes] = parts.map(|bytes| num_tokens.saturating_mul(bytes));
        let bytes_of = |kept: Kept| match kept {
            Kept::All => other_bytes.saturating_add(norm_bytes),
            Kept::WithoutNorms => other_bytes,
            Kept::Input => 0,
        };
        let kept = recompute.plan(self.num_hidden_layers, other_bytes, norm_bytes).into_iter().map(bytes_of);
        (kept.fold(0, u64::saturating_add), bytes_of(Kept::All))
    }
}

impl CausalLm {
    /// Changes what the backward computes again. Recorded passes are forgotten.
    pub fn set_recompute(&mut self, recompute: Recompute) {
        self.options.recompute = recompute;
        self.forget_recorded_passes();
    }

    /// Lets the backward keep as much as fits in a share of `free_bytes`, the memory that the
    /// model's device has left: [`Recompute::Within`].
    ///
    /// On a GPU the share is nine tenths, because the allocator loses some between its blocks, less
    /// 2 GiB for everything else. On the CPU it is a quarter, because other programs use the same
    /// memory.
    ///
    /// The answer is for a batch of `full_batch_tokens`; smaller batches may keep more blocks.
    pub fn keep_within(&mut self, free_bytes: u64, full_batch_tokens: usize) -> KeptBlocks {
        let bytes = match self.options.device.is_cuda() {
            true => (free_bytes / 10 * 9).saturating_sub(GPU_RESERVE_BYTES),
            false => free_bytes / 4,
        };
        self.set_recompute(Recompute::Within { bytes });
        let kept = self.kept_blocks(i64::try_from(full_batch_tokens).unwrap_or(i64::MAX));
        KeptBlocks { kept, of: self.config.num_hidden_layers, bytes }
    }

    /// How many blocks of a batch of `num_tokens` are kept, with or without their norms. Of the
    /// others only the input is.
    pub fn kept_blocks(&self, num_tokens: i64) -> usize {
        self.kept(num_tokens).iter().filter(|kept| **kept != Kept::Input).count()
    }

    /// Bytes that the backward of a batch of `num_tokens` keeps inside the blocks.
    pub fn kept_bytes(&self, num_tokens: i64) -> u64 {
        let [other_bytes, norm_bytes] = Activations::bytes_per_token(&self.config, self.compute);
        let bytes_of = |kept: &Kept| match kept {
            Kept::All => other_bytes + norm_bytes,
            Kept::WithoutNorms => other_bytes,
            Kept::Input => 0,
        };
        let num_tokens_or_zero = u64::try_from(num_tokens).unwrap_or(0);
        num_tokens_or_zero.saturating_mul(self.kept(num_tokens).iter().map(bytes_of).sum())
    }

    /// What is kept of each block for a batch of `num_tokens`.
    pub(crate) fn kept(&self, num_tokens: i64) -> Vec<Kept> {
        let [other_bytes, norm_bytes] = Activations::bytes_per_token(&self.config, self.compute);
        let tokens = u64::try_from(num_tokens).unwrap_or(0);
        let (other_bytes, norm_bytes) = (tokens.saturating_mul(other_bytes), tokens.saturating_mul(norm_bytes));
        self.options.recompute.plan(self.blocks.len(), other_bytes, norm_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelOptions;

    #[test]
    fn as_much_is_kept_as_fits() {
        let plan = |bytes| Recompute::Within { bytes }.plan(4, 100, 20);
        assert_eq!(plan(480), [Kept::All; 4]);
        assert_eq!(plan(479), [Kept::WithoutNorms; 4]);
        assert_eq!(plan(399), [Kept::Input, Kept::WithoutNorms, Kept::WithoutNorms, Kept::WithoutNorms]);
        assert_eq!(plan(100), [Kept::Input, Kept::Input, Kept::Input, Kept::WithoutNorms]);
        assert_eq!(plan(99), [Kept::Input; 4]);
        // A batch without tokens.
        assert_eq!(Recompute::Within { bytes: 0 }.plan(2, 0, 0).len(), 2);
    }

    #[test]
    fn a_quarter_of_the_cpu_s_free_memory_is_used() {
        let json = serde_json::json!({
            "model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 4, "num_attention_heads": 2
        });
        let config = Config::from_json(json, "config.json".as_ref()).unwrap();
        let [other_bytes, norm_bytes] = Activations::bytes_per_token(&config, tch::Kind::Float);
        let mut model = CausalLm::zeros(config, ModelOptions::default()).unwrap();
        let one_block = 100 * other_bytes;
        for (free_bytes, kept) in [(0, 0), (4 * one_block - 4, 0), (4 * one_block, 1), (12 * one_block, 3)] {
            let expected = KeptBlocks { kept, of: 4, bytes: free_bytes / 4 };
            assert_eq!(model.keep_within(free_bytes, 100), expected);
            assert_eq!(model.options().recompute, Recompute::Within { bytes: free_bytes / 4 });
            assert_eq!(model.kept_bytes(100), kept as u64 * one_block);
        }
        model.keep_within(u64::MAX, 100);
        assert_eq!(model.kept_bytes(100), 4 * 100 * (other_bytes + norm_bytes));
        assert_eq!(model.keep_within(1 << 40, usize::MAX).kept, 0);
    }

    #[test]
    fn names_are_read_and_written() {
        for (name, recompute) in [("none", Recompute::None), ("cheap", Recompute::Cheap), ("block", Recompute::Block)] {
            assert_eq!(name.parse::<Recompute>().unwrap(), recompute);
            assert_eq!(recompute.to_string(), name);
        }
        assert!("within".parse::<Recompute>().is_err());
        assert_eq!(Recompute::Within { bytes: 7 }.to_string(), "within 7 bytes");
    }
}
