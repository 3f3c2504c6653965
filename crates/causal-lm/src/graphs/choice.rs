//! Whether recording pays for a model and its batches.

use super::CudaGraphs;
use crate::{BucketPadding, CausalLm};
use tch::Device;

/// Measured on one H100; needed to within a factor of two. What the host takes to launch one
/// operation.
const SECONDS_PER_OPERATION: f64 = 10e-6;
/// Forward and backward.
const OPERATIONS_PER_BLOCK: f64 = 50.0;
/// What the GPU computes per second.
const FLOPS: f64 = 4e14;

/// Attention's backward reserves room for 128 tokens per row, whether the row has tokens or not.
/// For this many rows that is about 300 MB in a model of 0.5 billion parameters.
const MAX_ROWS: usize = 512;

/// The sizes of the batches that a model is trained on, before padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShapes {
    /// Tokens of a batch on average.
    pub mean_tokens: usize,
    /// No batch has more tokens.
    pub full_tokens: usize,
    /// No batch has more rows. Documents packed into one row count as rows.
    pub most_rows: usize,
    /// Whether all examples have the same number of tokens, so that all batches but an epoch's last
    /// have one size.
    pub has_one_length: bool,
}

/// Decides whether the model's passes are recorded, and how batches should then be padded; `None`
/// if passes are not recorded.
///
/// `wanted` decides where it is given. Otherwise passes are recorded where that helps and fits:
/// where the host would take longer to launch the operations of a batch than the GPU to do them, or
/// where batches have one size and need no padding. `padding` is what batches are padded with now;
/// its sizes are changed.
///
/// Models that [cannot be recorded](CausalLm::is_recordable) are left as they are.
pub fn choose(
    model: &mut CausalLm,
    shapes: BatchShapes,
    wanted: Option<CudaGraphs>,
    padding: BucketPadding,
) -> Option<BucketPadding> {
    if !model.is_recordable() {
        return None;
    }
    let rows_fit = shapes.most_rows <= MAX_ROWS;
    let helps = shapes.has_one_length || launching_dominates(LaunchEstimate::of(model, shapes));
    let chosen = match wanted {
        Some(wanted) => wanted,
        None if helps && rows_fit && has_room(model, shapes.full_tokens) => CudaGraphs::On,
        None => CudaGraphs::Off,
    };
    model.set_cuda_graphs(chosen);
    (chosen == CudaGraphs::On).then(|| pad_for(shapes, padding))
}

/// The padding that makes batches of these sizes fall into few shapes.
fn pad_for(shapes: BatchShapes, padding: BucketPadding) -> BucketPadding {
    let multiple_of = match shapes.has_one_length {
        true => padding.multiple_of,
        // About a dozen sizes. On average half of a sixteenth of a batch is padding.
        false => {
            BucketPadding::for_gpu(padding.token_id).multiple_of.max((shapes.mean_tokens / 16).next_power_of_two())
        }
    };
    // One row more than any batch has, for the padding tokens.
    let min_rows = if shapes.most_rows <= MAX_ROWS { shapes.most_rows + 1 } else { padding.min_rows };
    BucketPadding { multiple_of, min_rows, ..padding }
}

/// What the times of launching and computing a batch depend on.
struct LaunchEstimate {
    num_parameters: f64,
    num_layers: f64,
    num_tokens: f64,
}

impl LaunchEstimate {
    fn of(model: &CausalLm, shapes: BatchShapes) -> Self {
        Self {
            num_parameters: model.parameters().num_parameters() as f64,
            num_layers: model.config().num_hidden_layers as f64,
            num_tokens: shapes.mean_tokens as f64,
        }
    }
}

/// Whether launching the operations of a batch takes longer than doing them: 6 floating-point
/// operations per parameter and token, forward and backward.
fn launching_dominates(LaunchEstimate { num_parameters, num_layers, num_tokens }: LaunchEstimate) -> bool {
    num_layers * OPERATIONS_PER_BLOCK * SECONDS_PER_OPERATION > 6.0 * num_parameters * num_tokens / FLOPS
}

/// Whether memory suffices. Graphs keep what a pass takes, and passes that are not recorded take
/// the same again.
fn has_room(model: &CausalLm, full_tokens: usize) -> bool {
    let kept = model.kept_bytes(i64::try_from(full_tokens).unwrap_or(i64::MAX));
    let Device::Cuda(index) = model.options().device else { return false };
    torch_ext::cuda::available_memory(index).is_ok_and(|available| kept < available / 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, ModelOptions};

    /// As measured: SmolLM2-135M becomes half as fast again, a 0.5B model with 3500 tokens or more
    /// gains nothing.
    #[test]
    fn small_models_and_short_rows_are_held_up_by_the_host() {
        let dominates = |num_parameters, num_layers, num_tokens| {
            launching_dominates(LaunchEstimate { num_parameters, num_layers, num_tokens })
        };
        assert!(dominates(134e6, 30.0, 2250.0));
        assert!(dominates(464e6, 24.0, 800.0));
        assert!(!dominates(464e6, 24.0, 3500.0));
        assert!(!dominates(464e6, 24.0, 8192.0));
    }

    #[test]
    fn batches_of_many_sizes_are_padded_to_a_sixteenth_and_those_of_one_size_as_before() {
        let padding = BucketPadding::for_gpu(7);
        let shapes = BatchShapes { mean_tokens: 9000, full_tokens: 16384, most_rows: 16, has_one_length: false };
        assert_eq!(pad_for(shapes, padding), BucketPadding { multiple_of: 1024, token_id: 7, min_rows: 17 });
        let small = BatchShapes { mean_tokens: 100, most_rows: 513, ..shapes };
        assert_eq!(pad_for(small, padding), padding);
        let equal = BatchShapes { has_one_length: true, ..shapes };
        assert_eq!(pad_for(equal, padding), BucketPadding { multiple_of: 128, token_id: 7, min_rows: 17 });
    }

    #[test]
    fn a_model_on_the_cpu_is_never_recorded() {
        let json = serde_json::json!({
            "model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 2
        });
        let config = Config::from_json(json, "config.json".as_ref()).unwrap();
        let mut model = CausalLm::zeros(config, ModelOptions::default()).unwrap();
        let shapes = BatchShapes { mean_tokens: 10, full_tokens: 10, most_rows: 2, has_one_length: true };
        assert_eq!(choose(&mut model, shapes, Some(CudaGraphs::On), BucketPadding::for_gpu(0)), None);
        assert_eq!(model.options().cuda_graphs, CudaGraphs::Off);
    }
}
