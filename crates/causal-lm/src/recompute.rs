//! What the backward keeps of the forward, and what it computes again.

/// What the backward keeps of the forward. It does not change results: what is computed again comes
/// out as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Everything is kept: fastest, most memory.
    None,
    /// Norms are computed again, which one pass over memory each brings back: a seventh less memory
    /// for a percent of time.
    Cheap,
    /// Of each block its input alone is kept, and the rest computed again (Chen et al., arXiv
    /// 1604.06174). What transformers calls gradient checkpointing: least memory, a third more
    /// arithmetic.
    #[default]
    Block,
    /// As much as fits into so many bytes: everything, else all but norms of as many blocks as fit.
    /// Decided for each batch by its tokens.
    Within {
        /// For what is kept besides the blocks' inputs.
        bytes: u64,
    },
}

/// What is kept of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    WithoutNorms,
    Input,
}

impl Recompute {
    /// For each of `blocks`, of which the norms take `norms` bytes and the rest `rest`.
    pub(crate) fn plan(self, blocks: usize, rest: u64, norms: u64) -> Vec<Kept> {
        match self {
            Recompute::None => vec![Kept::All; blocks],
            Recompute::Cheap => vec![Kept::WithoutNorms; blocks],
            Recompute::Block => vec![Kept::Input; blocks],
            Recompute::Within { bytes } if bytes / (rest + norms).max(1) >= blocks as u64 => vec![Kept::All; blocks],
            Recompute::Within { bytes } => {
                let fit = usize::try_from(bytes / rest.max(1)).unwrap_or(blocks).min(blocks);
                // The last ones: they are through with when the first are computed again, so that
                // the two never add up.
                let mut plan = vec![Kept::Input; blocks - fit];
                plan.resize(blocks, Kept::WithoutNorms);
                plan
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
