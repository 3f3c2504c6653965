//! Forward and backward of a batch as one CUDA graph, for batches whose shape has been seen before.

use crate::ops::copied;
use crate::rows::{RowGroup, Shape};
use crate::{Error, LossSums, TokenBatch};
use std::collections::HashMap;
use tch::Tensor;
use torch_ext::graph::{Graph, Pool};

/// Whether a pass over a batch is recorded and launched as a whole.
///
/// It saves the host the time to ask for each operation, and matters where that is longer than what
/// the GPU needs for it: small models, short rows. Results are the same. Memory that a recorded
/// pass takes stays reserved, once for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CudaGraphs {
    /// Operation by operation.
    #[default]
    Off,
    /// The first batch of a shape operation by operation, the second is recorded, later ones are
    /// launched. Batches repeat in shape when they are [`filled`](TokenBatch::filled). Without
    /// effect where operations depend on more than the shape: on the CPU, where attention runs as
    /// the formula stands, with dynamic rope.
    On,
}

/// A graph keeps about a kilobyte for each of its thousands of operations, on the host and on the
/// GPU.
const MAX_GRAPHS: usize = 64;

/// The recorded passes of a model.
#[derive(Debug, Default)]
pub(crate) struct Graphs {
    by_shape: HashMap<(Shape, Option<RowGroup>), Known>,
    pool: Option<Pool>,
    num_recorded: usize,
    /// Why there will be no more.
    failure: Option<Error>,
}

#[derive(Debug)]
enum Known {
    Seen,
    Recorded(Box<Recorded>),
}

#[derive(Debug)]
struct Recorded {
    graph: Graph,
    /// What the graph reads.
    batch: TokenBatch,
    scale: Tensor,
    /// What it writes, besides the gradients.
    sums: LossSums,
}

impl Graphs {
    /// The sums of `pass`, which is a function of batch and scale and of nothing else that changes
    /// its place. `rows` are those that the pass holds for, if it does not read them from the
    /// device.
    ///
    /// # Errors
    /// Those of `pass`. What cannot be recorded is done operation by operation instead.
    pub(crate) fn run(
        &mut self,
        device: usize,
        (batch, rows): (&TokenBatch, Option<RowGroup>),
        scale: &Tensor,
        pass: impl Fn(&TokenBatch, &Tensor) -> Result<LossSums, Error>,
    ) -> Result<LossSums, Error> {
        let shape = (batch.shape(), rows);
        match self.by_shape.get_mut(&shape) {
            Some(Known::Recorded(recorded)) => return recorded.launch(batch, scale),
            Some(Known::Seen) if self.failure.is_none() && self.num_recorded < MAX_GRAPHS => {}
            _ => {
                let sums = pass(batch, scale)?;
                self.by_shape.entry(shape).or_insert(Known::Seen);
                return Ok(sums);
            }
        }
        match self.record(device, batch, scale, &pass) {
            Ok(recorded) => {
                let mut recorded = Box::new(recorded);
                let sums = recorded.launch(batch, scale)?;
                self.by_shape.insert(shape, Known::Recorded(recorded));
                self.num_recorded += 1;
                Ok(sums)
            }
            Err(error) => {
                // Memory may be short, or this CUDA cannot do it. Nothing of the pass was done.
                self.failure = Some(error);
                pass(batch, scale)
            }
        }
    }

    /// Why passes are no longer recorded, if they are not.
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
    ) -> Result<Recorded, Error> {
        let pool = match self.pool {
            Some(pool) => pool,
            None => {
                // The pass before this one left as much memory behind as the recorded one will
                // take, where no graph can have it.
                torch_ext::cuda::release_unused_memory()?;
                *self.pool.insert(Pool::new()?)
            }
        };
        // Not in the graphs' own memory.
        let (batch, scale) = (batch.copied()?, copied(scale)?);
        let (graph, sums) = Graph::record(device, pool, || pass(&batch, &scale))?;
        Ok(Recorded { graph, batch, scale, sums })
    }
}

impl Recorded {
    fn launch(&mut self, batch: &TokenBatch, scale: &Tensor) -> Result<LossSums, Error> {
        self.batch.overwrite(batch)?;
        self.scale.f_copy_(scale)?;
        self.graph.launch()?;
        // The next launch writes there again.
        Ok(LossSums { loss: copied(&self.sums.loss)?, correct: copied(&self.sums.correct)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::device;
    use crate::{CausalLm, Config, Filling, ModelOptions, Recompute};
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

    /// Rows of these lengths; the first of each has no targets in its first half.
    fn batch(lengths: &[usize], salt: i64, filling: Option<Filling>, device: Device) -> TokenBatch {
        let tokens = lengths.iter().sum::<usize>() as i64;
        let ids: Vec<i64> = (0..tokens).map(|place| (place * 37 + salt * 11) % VOCABULARY).collect();
        let mut targets: Vec<i64> = ids[1..].iter().copied().chain([-1]).collect();
        targets[..lengths[0] / 2].fill(-100);
        match filling {
            Some(filling) => TokenBatch::filled(&ids, &targets, lengths, filling).unwrap().to_device(device).unwrap(),
            None => TokenBatch::new(&ids, &targets, lengths, device).unwrap(),
        }
    }

    fn distance(found: &Tensor, expected: &Tensor) -> f64 {
        let wide = |tensor: &Tensor| tensor.to_kind(Kind::Double);
        let norm = |tensor: Tensor| tensor.square().sum(Kind::Double).sqrt().double_value(&[]);
        norm(wide(found) - wide(expected)) / norm(wide(expected))
    }

    #[test]
    fn what_a_batch_is_filled_up_with_changes_nothing() {
        let options = || ModelOptions { dtype: Some(Kind::Double), ..ModelOptions::default() };
        let lengths = [9, 4, 17];
        let result = |filling| {
            let (mut model, batch) = (model(options()), batch(&lengths, 1, filling, Device::Cpu));
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
        let (filled_loss, filled_correct, filled) = result(Some(Filling { multiple: 16, token_id: 3, rows: 6 }));
        assert!((filled_loss - loss).abs() < 1e-12 * loss, "{filled_loss} {loss}");
        assert_eq!(filled_correct, correct);
        assert!(distance(&filled, &gradients) < 1e-12);
    }

    /// Without a GPU nothing is recorded, and both are the same by construction.
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
                let filling = Filling { multiple: 64, token_id: 0, rows: 8 };
                // Two shapes in turns, others in between; each batch has other rows, tokens and
                // scale.
                let all: [&[usize]; 8] = [&[40, 10], &[30, 29], &[9, 9, 33], &[70], &[61], &[100, 3], &[64], &[7; 9]];
                let mut last = Tensor::new();
                for (salt, lengths) in (0..).zip(all.iter().chain(&all)) {
                    let batch = batch(lengths, salt, Some(filling), device);
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
                        // As after a step: weights and gradients change in place.
                        let _ = weights.shallow_clone().f_mul_scalar_(0.98).unwrap();
                        single.parameters().flat_weights().shallow_clone().copy_(&weights);
                        for model in [&mut recorded, &mut single] {
                            model.parameters_mut().zero_gradients().unwrap();
                        }
                    }
                }
                assert!(recorded.cuda_graphs_failure().is_none(), "{:?}", recorded.cuda_graphs_failure());
                // Attention in float32 has no kernel that reads the rows' lengths on the device.
                let records = device.is_cuda() && kind == Kind::BFloat16;
                let num_recorded = recorded.num_cuda_graphs();
                assert!(if records { (2..8).contains(&num_recorded) } else { num_recorded == 0 }, "{num_recorded}");
            }
        }
    }
}
