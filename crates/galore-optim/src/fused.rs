//! The same step through fused kernels, on a GPU that has them: one pass over what the plain path passes over a dozen times.

use tch::{TchError, Tensor};
use torch_ext::kernels;
use torch_ext::kernels::adam::Constants;
pub(crate) use torch_ext::kernels::adam::Storage;

use crate::adam::AdamStep;

/// Whether kernels take these operands; see [`kernels::available`].
pub(crate) fn takes(operands: &[&Tensor]) -> bool {
    kernels::available(operands)
}

/// One step of a whole weight.
pub(crate) fn update(
    weight: &Tensor,
    storage: Storage<'_>,
    gradient: &Tensor,
    (first, second): (&mut Tensor, &mut Tensor),
    moments_key: u64,
    adam: &AdamStep,
) -> Result<(), TchError> {
    let constants = adam.constants(-adam.step_size, moments_key);
    kernels::adam::full(&mut weight.shallow_clone(), storage, gradient, (first, second), &constants).map_err(failed)
}

/// A projected gradient becomes the step in the subspace, with `scale` on it.
pub(crate) fn direction(
    gradient: &mut Tensor,
    (first, second): (&mut Tensor, &mut Tensor),
    moments_key: u64,
    adam: &AdamStep,
    scale: f64,
) -> Result<(), TchError> {
    let constants = adam.constants(-adam.step_size * scale, moments_key);
    kernels::adam::direction(gradient, (first, second), &constants).map_err(failed)
}

/// `master` (float32) ← the weight.
pub(crate) fn read_master(weight: &Tensor, storage: Storage<'_>, master: &mut Tensor) -> Result<(), TchError> {
    kernels::adam::read_master(weight, storage, master).map_err(failed)
}

/// The weight ← `master` (float32).
pub(crate) fn write_master(master: &Tensor, weight: &Tensor, storage: Storage<'_>) -> Result<(), TchError> {
    const AS_IT_IS: Constants = Constants {
        beta1: 0.0,
        beta2: 0.0,
        epsilon: 0.0,
        step: 0.0,
        moments_key: 0,
        root: 1.0,
        decay_before: 1.0,
        decay_after: 1.0,
    };
    kernels::adam::write_master(master, &mut weight.shallow_clone(), storage, &AS_IT_IS).map_err(failed)
}

/// Float32 products of tensors on a GPU round their operands to TF32 while the result lives. An update takes relative errors of some
/// 1e-4 well, and costs a fraction; the decomposition does not, and stays in float32.
pub(crate) fn allow_tf32(tensor: &Tensor) -> Result<Option<torch_ext::cuda::AllowTf32>, TchError> {
    tensor.device().is_cuda().then(torch_ext::cuda::AllowTf32::new).transpose().map_err(failed)
}

fn failed(error: torch_ext::Error) -> TchError {
    TchError::Torch(error.to_string())
}
