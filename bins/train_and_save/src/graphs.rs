//! Whether passes over the model are recorded, and how batches are filled up so that their sizes
//! repeat.

use crate::batches::Split;
use causal_lm::{CausalLm, CudaGraphs, Filling};
use tch::Device;

/// Host time for one operation, operations of a block forward and back, and arithmetic of the
/// device: measured on one H100, and needed to within a factor of two.
const SECONDS_AN_OPERATION: f64 = 10e-6;
const OPERATIONS_A_BLOCK: f64 = 50.0;
const FLOPS: f64 = 4e14;

/// Sizes of batches, of which a size not seen before costs the host a search for the best
/// algorithm, 0.2 ms for each of some twenty products. So there are few.
const MULTIPLE: usize = 128;

/// Attention's backward takes room for 128 tokens for each row, with tokens or without: so many
/// rows take some 300 MB in a 0.5B model.
const MOST_ROWS: usize = 512;

/// Filled up for a GPU: the processor has no such search, and would compute the filling.
pub fn filling(pad_token_id: u32) -> Filling {
    Filling { multiple: MULTIPLE, token_id: i64::from(pad_token_id), rows: 0 }
}

/// Has passes recorded if that was asked for, or where it helps: if the host would take longer to
/// ask for the operations of a batch than the device to do them, or if all batches have one size,
/// so that nothing need be filled up. Says what was chosen.
pub fn choose(model: &mut CausalLm, train: &mut Split, wanted: Option<CudaGraphs>) -> Option<String> {
    if !model.is_recordable() {
        return None;
    }
    let tokens = train.mean_batch_tokens();
    let has_one_length = train.has_one_length();
    let (parameters, layers) = (model.parameters().num_parameters(), model.config().num_hidden_layers);
    let most_rows = Some(train.most_rows()).filter(|rows| *rows <= MOST_ROWS);
    let helps = host_holds_up(parameters as f64, layers as f64, tokens as f64) || has_one_length;
    let chosen = match wanted {
        Some(wanted) => wanted,
        None if helps && most_rows.is_some() && has_room(model, train.full_batch_tokens()) => CudaGraphs::On,
        None => CudaGraphs::Off,
    };
    model.set_cuda_graphs(chosen);
    if chosen == CudaGraphs::Off {
        return None;
    }
    if let Some(filling) = &mut train.filling {
        if !has_one_length {
            // Half of a sixteenth is computed in vain, for a dozen sizes.
            filling.multiple = MULTIPLE.max((tokens / 16).next_power_of_two());
        }
        // One more for the filling.
        filling.rows = most_rows.map_or(filling.rows, |rows| rows + 1);
    }
    Some(format!(
        "CUDA graphs: a batch has {tokens} tokens in the mean, filled up to a multiple of {}; batches of a size seen twice are launched as \
         a whole",
        train.filling.map_or(1, |filling| filling.multiple)
    ))
}

/// Whether asking for the operations takes longer than doing them, for a batch of so many tokens.
fn host_holds_up(parameters: f64, layers: f64, tokens: f64) -> bool {
    layers * OPERATIONS_A_BLOCK * SECONDS_AN_OPERATION > 6.0 * parameters * tokens / FLOPS
}

/// Graphs hold on to what a pass takes, beside what passes take that are not recorded.
fn has_room(model: &CausalLm, full_batch: usize) -> bool {
    let kept = model.kept_bytes(i64::try_from(full_batch).unwrap_or(i64::MAX));
    let Device::Cuda(index) = model.options().device else { return false };
    torch_ext::cuda::available_memory(index).is_ok_and(|available| kept < available / 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Flags;
    use crate::settings::Settings;

    /// As measured: SmolLM2-135M gains by a half, a 0.5B model with 3500 tokens and more nothing.
    #[test]
    fn small_models_and_short_rows_are_held_up_by_the_host() {
        assert!(host_holds_up(134e6, 30.0, 2250.0));
        assert!(host_holds_up(464e6, 24.0, 800.0));
        assert!(!host_holds_up(464e6, 24.0, 3500.0));
        assert!(!host_holds_up(464e6, 24.0, 8192.0));
    }

    #[test]
    fn the_flag_has_three_values() {
        let resolve = |name: Option<&str>| {
            let flags = Flags { model_name: Some("m".into()), output_dir: Some("o".into()), ..Flags::default() };
            Settings::resolve(Flags { cuda_graphs: name.map(str::to_owned), ..flags })
                .map(|settings| settings.cuda_graphs)
        };
        assert_eq!(resolve(None).unwrap(), None);
        assert_eq!(resolve(Some("auto")).unwrap(), None);
        assert_eq!(resolve(Some("on")).unwrap(), Some(CudaGraphs::On));
        assert_eq!(resolve(Some("off")).unwrap(), Some(CudaGraphs::Off));
        assert!(resolve(Some("true")).unwrap_err().to_string().contains("cuda_graphs"));
    }
}
