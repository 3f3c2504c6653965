//! Recording forward and backward of a batch as one CUDA graph, for shapes that come again.

use crate::ops::deep_copy;
use crate::row_layout::RowGroup;
use crate::token_batch::BatchShape;
use crate::{Error, LossSums, TokenBatch};
use std::collections::HashMap;
use tch::Tensor;
use torch_ext::graph::{Graph, Pool};

/// A graph has thousands of operations, and each keeps about a kilobyte on the host and on the GPU.
const MAX_GRAPHS: usize = 64;

/// The recorded passes of a model.
#[derive(Debug, Default)]
pub(crate) struct RecordedPasses {
    by_shape: HashMap<(BatchShape, Option<RowGroup>), ShapeState>,
    pool: Option<Pool>,
    num_recorded: usize,
    /// Set when recording has failed. Nothing more is recorded then.
    failure: Option<Error>,
}

#[derive(Debug)]
enum ShapeState {
    SeenOnce,
    Recorded(Box<RecordedPass>),
}

#[derive(Debug)]
struct RecordedPass {
    graph: Graph,
    /// What the graph reads.
    batch: TokenBatch,
    scale: Tensor,
    /// What it writes, beside the gradients.
    sums: LossSums,
}

impl RecordedPasses {
    /// Runs `pass`, recorded if the shape has been seen before, and returns its sums.
    ///
    /// `pass` must read nothing but batch, scale, and tensors that stay where they are. `rows` is
    /// given if the pass depends on the rows' lengths rather than reading them on the device; it
    /// then counts as part of the shape.
    ///
    /// # Errors
    /// Those of `pass`. If recording fails, the pass runs operation by operation instead.
    pub(crate) fn run(
        &mut self,
        device: usize,
        (batch, rows): (&TokenBatch, Option<RowGroup>),
        scale: &Tensor,
        pass: impl Fn(&TokenBatch, &Tensor) -> Result<LossSums, Error>,
    ) -> Result<LossSums, Error> {
        let shape = (batch.shape(), rows);
        match self.by_shape.get_mut(&shape) {
            Some(ShapeState::Recorded(recorded)) => return recorded.launch(batch, scale),
            Some(ShapeState::SeenOnce) if self.failure.is_none() && self.num_recorded < MAX_GRAPHS => {}
            _ => {
                let sums = pass(batch, scale)?;
                self.by_shape.entry(shape).or_insert(ShapeState::SeenOnce);
                return Ok(sums);
            }
        }
        match self.record(device, batch, scale, &pass) {
            Ok(recorded) => {
                let mut recorded = Box::new(recorded);
                let sums = recorded.launch(batch, scale)?;
                self.by_shape.insert(shape, ShapeState::Recorded(recorded));
                self.num_recorded += 1;
                Ok(sums)
            }
            Err(error) => {
                // Memory may be short, or this version of CUDA cannot record the pass. Nothing of
                // it has run yet.
                tracing::warn!(%error, "CUDA graphs failed; operations are launched one by one from now on: {error}");
                self.failure = Some(error);
                pass(batch, scale)
            }
        }
    }

    /// Why nothing more is recorded, if recording has failed.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    #[cfg(test)]
    pub(crate) fn num_recorded(&self) -> usize {
        self.num_recorded
    }

    fn record(
        &mut self,
        device: usize,
        batch: &TokenBatch,
        scale: &Tensor,
        pass: impl Fn(&TokenBatch, &Tensor) -> Result<LossSums, Error>,
    ) -> Result<RecordedPass, Error> {
        let pool = match self.pool {
            Some(pool) => pool,
            None => {
                // The allocator still holds what the previous pass took, as much as this one needs.
                // Graphs cannot use that memory, so it is released.
                torch_ext::cuda::release_unused_memory()?;
                *self.pool.insert(Pool::new()?)
            }
        };
        // Copied before recording, so that they are not in the memory that graphs write to.
        let (batch, scale) = (batch.deep_copy()?, deep_copy(scale)?);
        let (graph, sums) = Graph::record(device, pool, || pass(&batch, &scale))?;
        Ok(RecordedPass { graph, batch, scale, sums })
    }
}

impl RecordedPass {
    fn launch(&mut self, batch: &TokenBatch, scale: &Tensor) -> Result<LossSums, Error> {
        self.batch.overwrite(batch)?;
        self.scale.f_copy_(scale)?;
        self.graph.launch()?;
        // The next launch overwrites the sums, so the caller gets copies.
        Ok(LossSums { loss: deep_copy(&self.sums.loss)?, correct: deep_copy(&self.sums.correct)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::device;
    use crate::{BucketPadding, CausalLm, Config, CudaGraphs, ModelOptions, Recompute};
    use std::path::Path;
    use tch::{Device, Kind};

    const VOCABULARY: i64 = 300;

    fn model(options: ModelOptions) -> CausalLm {
        let json = serde_json::json!({
            "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6,
            "tie_word_embeddings": true, "initializer_range": 0.1
        });
        let mut model = CausalLm::zeros(Config::from_json(json, Path::new("config.json")).unwrap(), options).unwrap();
        model.initialise(1).unwrap();
        model
    }

    /// Rows of these lengths. The first row has no targets in its first half.
    fn batch(lengths: &[usize], salt: i64, padding: Option<BucketPadding>, device: Device) -> TokenBatch {
        let tokens = lengths.iter().sum::<usize>() as i64;
        let ids: Vec<i64> = (0..tokens).map(|place| (place * 37 + salt * 11) % VOCABULARY).collect();
        let mut targets: Vec<i64> = ids[1..].iter().copied().chain([-1]).collect();
        targets[..lengths[0] / 2].fill(-100);
        match padding {
            Some(padding) => {
                TokenBatch::padded_to_bucket(&ids, &targets, lengths, padding).unwrap().to_device(device).unwrap()
            }
            None => TokenBatch::new(&ids, &targets, lengths, device).unwrap(),
        }
    }

    fn distance(found: &Tensor, expected: &Tensor) -> f64 {
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let norm = |tensor: Tensor| tensor.square().sum(Kind::Double).sqrt().double_value(&[]);
        norm(wide(found) - wide(expected)) / norm(wide(expected))
    }

    #[test]
    fn bucket_padding_changes_nothing() {
        let options = || ModelOptions { dtype: Some(Kind::Double), ..ModelOptions::default() };
        let lengths = [9, 4, 17];
        let result = |padding| {
            let (mut model, batch) = (model(options()), batch(&lengths, 1, padding, Device::Cpu));
            let sums = model.forward_backward(&batch, 0.01).unwrap();
            let alone = model.loss(&batch).unwrap();
            assert_eq!(alone.correct, sums.correct);
            (
                sums.loss.double_value(&[]),
                sums.correct.int64_value(&[]),
                model.parameters_mut().flat_gradients().unwrap(),
            )
        };
        let (loss, correct, gradients) = result(None);
        let padding = BucketPadding { multiple_of: 16, token_id: 3, min_rows: 6 };
        let (padded_loss, padded_correct, padded) = result(Some(padding));
        assert!((padded_loss - loss).abs() < 1e-12 * loss, "{padded_loss} {loss}");
        assert_eq!(padded_correct, correct);
        assert!(distance(&padded, &gradients) < 1e-12);
    }

    /// Without a GPU nothing is recorded, and both models do the same.
    #[test]
    fn recorded_passes_give_what_single_operations_give() {
        let device = device();
        for (kind, bound) in [(Kind::BFloat16, 2e-2), (Kind::Float, 1e-5)] {
            for recompute in [Recompute::None, Recompute::Block] {
                let options = |cuda_graphs| ModelOptions {
                    device,
                    dtype: Some(kind),
                    compute_dtype: Some(kind),
                    recompute,
                    cuda_graphs,
                    ..ModelOptions::default()
                };
                let (mut recorded, mut single) = (model(options(CudaGraphs::On)), model(options(CudaGraphs::Off)));
                let weights = recorded.parameters().flat_weights().shallow_clone();
                single.parameters().flat_weights().shallow_clone().copy_(&weights);
                let padding = BucketPadding { multiple_of: 64, token_id: 0, min_rows: 8 };
                // Two shapes take turns, with others in between. Rows, tokens and scale differ from
                // batch to batch.
                let all: [&[usize]; 8] = [&[40, 10], &[30, 29], &[9, 9, 33], &[70], &[61], &[100, 3], &[64], &[7; 9]];
                let mut last = Tensor::new();
                for (salt, lengths) in (0..).zip(all.iter().chain(&all)) {
                    let batch = batch(lengths, salt, Some(padding), device);
                    let scale = 1.0 / (10.0 + salt as f64);
                    let [ours, theirs] =
                        [&mut recorded, &mut single].map(|model| model.forward_backward(&batch, scale).unwrap());
                    let (ours_loss, theirs_loss) = (ours.loss.double_value(&[]), theirs.loss.double_value(&[]));
                    assert!(
                        (ours_loss - theirs_loss).abs() < bound * theirs_loss,
                        "{lengths:?}: {ours_loss} {theirs_loss}"
                    );
                    let [ours, theirs] =
                        [&mut recorded, &mut single].map(|model| model.parameters_mut().flat_gradients().unwrap());
                    let found = distance(&ours, &theirs);
                    assert!(found < bound, "{kind:?} {recompute:?} {lengths:?}: {found}");
                    assert!(salt == 0 || distance(&last, &theirs) > 0.05, "each batch adds something");
                    last = theirs.copy();
                    if salt % 3 == 2 {
                        // As in a step, weights and gradients change in place.
                        let _ = weights.shallow_clone().f_mul_scalar_(0.98).unwrap();
                        single.parameters().flat_weights().shallow_clone().copy_(&weights);
                        for model in [&mut recorded, &mut single] {
                            model.parameters_mut().zero_gradients().unwrap();
                        }
                    }
                }
                assert!(recorded.cuda_graphs_failure().is_none(), "{:?}", recorded.cuda_graphs_failure());
                // No attention kernel for float32 reads the rows' lengths on the device.
                let records = device.is_cuda() && kind == Kind::BFloat16;
                let num_recorded = recorded.recorded_passes.num_recorded();
                assert!(if records { (2..8).contains(&num_recorded) } else { num_recorded == 0 }, "{num_recorded}");
            }
        }
    }
}
