//! The same step through fused kernels, on a GPU that has them: one pass over what the plain path
//! passes over a dozen times.

use tch::{Kind, TchError, Tensor};
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

/// A gradient as float16, times a power of two that keeps it in range; the largest absolute value,
/// which tells which.
pub(crate) fn narrow_gradient(gradient: &Tensor, out: &mut Tensor) -> Result<Tensor, TchError> {
    let largest = gradient.f_norm_scalaropt_dtype(f64::INFINITY, Kind::Float)?;
    kernels::adam::narrow_gradient(gradient, &largest, out).map_err(failed)?;
    Ok(largest)
}

/// As [`direction`], from the projection of a [`narrow_gradient`] to a float16 step, which is to be
/// multiplied by the power of two that this returns: what is left of the learning rate is between 1
/// and 2, and so the step far from where float16 ends.
pub(crate) fn narrow_direction(
    gradient: &mut Tensor,
    largest: &Tensor,
    out: &mut Tensor,
    (first, second): (&mut Tensor, &mut Tensor),
    moments_key: u64,
    adam: &AdamStep,
    scale: f64,
) -> Result<f64, TchError> {
    let step = -adam.step_size * scale;
    let power = power_of_two_in(step);
    let constants = adam.constants(step / power, moments_key);
    kernels::adam::narrow_direction(gradient, largest, out, (first, second), &constants).map_err(failed)?;
    Ok(power)
}

/// The largest power of two that is not above |x|; for what is too small for the inverse to
/// multiply a weight, 1.
pub(crate) fn power_of_two_in(x: f64) -> f64 {
    let power = x.abs().log2().floor().exp2();
    if (1e-30..1e30).contains(&power) { power } else { 1.0 }
}

/// `master` (float32) ← the weight times `factor`.
pub(crate) fn read_master(
    weight: &Tensor,
    storage: Storage<'_>,
    factor: f64,
    master: &mut Tensor,
) -> Result<(), TchError> {
    kernels::adam::read_master(weight, storage, factor, master).map_err(failed)
}

/// The weight ← `master` (float32) times `factor`.
pub(crate) fn write_master(
    master: &Tensor,
    weight: &Tensor,
    storage: Storage<'_>,
    factor: f64,
) -> Result<(), TchError> {
    let constants = Constants {
        beta1: 0.0,
        beta2: 0.0,
        epsilon: 0.0,
        step: 0.0,
        moments_key: 0,
        root: 1.0,
        decay_before: 1.0,
        decay_after: factor,
    };
    kernels::adam::write_master(master, &mut weight.shallow_clone(), storage, &constants).map_err(failed)
}

/// Float32 products of tensors on a GPU round their operands to TF32 while the result lives. An
/// update takes relative errors of some 1e-4 well, and costs a fraction; the decomposition does
/// not, and stays in float32.
pub(crate) fn allow_tf32(tensor: &Tensor) -> Result<Option<torch_ext::cuda::AllowTf32>, TchError> {
    tensor.device().is_cuda().then(torch_ext::cuda::AllowTf32::new).transpose().map_err(failed)
}

fn failed(error: torch_ext::Error) -> TchError {
    TchError::Torch(error.to_string())
}
