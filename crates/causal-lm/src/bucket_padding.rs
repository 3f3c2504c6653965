//! Padding a batch to one of a few sizes, so that batches of the same size come again.

/// GPU libraries search for their best algorithm whenever a matrix has a size they have not seen:
/// 0.2 ms for each of about twenty products. Multiples of this many tokens keep the sizes few.
const GPU_MULTIPLE_OF: usize = 128;

/// How a batch is padded so that its sizes are those of many other batches.
///
/// Nothing is learned from the padding: losses and gradients are those of the batch without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketPadding {
    /// The number of tokens, and the number of positions for which a loss is computed, are padded
    /// to a multiple of this. 0 means 1.
    pub multiple_of: usize,
    /// The id of the padding tokens. They form a row of their own.
    pub token_id: i64,
    /// The batch gets at least this many rows; the ones added have no tokens.
    pub min_rows: usize,
}

impl BucketPadding {
    /// Padding that pays on a GPU even when passes are not recorded: multiples of 128 tokens. On a
    /// CPU no padding pays.
    pub fn for_gpu(token_id: i64) -> Self {
        Self { multiple_of: GPU_MULTIPLE_OF, token_id, min_rows: 0 }
    }
}
