//! Kernels, solvers and statistics of torch-ext.

use super::{DeviceMemory, FusedKernels, KernelMoments, StackKeys, StoredStack, StoredWeight};
use crate::adam::AdamStep;
use tch::{Kind, TchError, Tensor};
use torch_ext::cuda::AllowTf32;
use torch_ext::kernels;
use torch_ext::kernels::adam::{
    Addition, Constants, Moments, NarrowGradient, StackFormat, StackNoise, Weight, WeightFormat,
};

pub(crate) use torch_ext::catch_scalar_panic;

struct Kernels;

/// The fused kernels, if they take these operands: contiguous, float32 or bfloat16, all on the CPU
/// or all on one GPU where kernels can be compiled.
pub(crate) fn fused_kernels(operands: &[&Tensor]) -> Option<&'static dyn FusedKernels> {
    kernels::adam::available(operands).then_some(&Kernels)
}

/// Float32 products of tensors on a GPU round their operands to TF32 while the result lives. An
/// update takes relative errors of some 1e-4 well, and costs a fraction of the time. The
/// decomposition does not, and stays in float32.
pub(crate) fn allow_tf32(tensor: &Tensor) -> Result<Option<AllowTf32>, TchError> {
    tensor.device().is_cuda().then(AllowTf32::new).transpose().map_err(failed)
}

/// The memory of a GPU, if it can be measured.
pub(crate) fn device_memory(index: usize) -> Option<DeviceMemory> {
    let memory = torch_ext::cuda::memory(index).ok()?;
    let available = torch_ext::cuda::available_memory(index).ok()?;
    Some(DeviceMemory { current: memory.current_bytes, peak: memory.peak_bytes, available })
}

/// Eigenvectors of symmetric matrices `[b, n, n]` (float32) as rows `[b, n, n]`, smallest
/// eigenvalue first. A GPU solves all matrices in one call.
pub(crate) fn eigenvectors(matrices: Tensor) -> Result<Tensor, TchError> {
    torch_ext::eigen::eigenvectors(matrices).map_err(failed)
}

impl FusedKernels for Kernels {
    fn update(
        &self,
        (weight, stored): (&Tensor, StoredWeight<'_>),
        gradient: &Tensor,
        KernelMoments { first, second, key }: KernelMoments<'_>,
        adam: &AdamStep,
    ) -> Result<(), TchError> {
        let constants = constants(adam, -adam.step_size, key);
        let weight = Weight { values: &mut weight.shallow_clone(), format: format(stored) };
        kernels::adam::full(weight, gradient, Moments { first, second }, &constants).map_err(failed)
    }

    fn direction(
        &self,
        gradient: &mut Tensor,
        KernelMoments { first, second, key }: KernelMoments<'_>,
        adam: &AdamStep,
        scale: f64,
    ) -> Result<(), TchError> {
        let constants = constants(adam, -adam.step_size * scale, key);
        kernels::adam::direction(gradient, Moments { first, second }, &constants).map_err(failed)
    }

    fn narrow_gradient(&self, gradient: &Tensor, out: &mut Tensor) -> Result<Tensor, TchError> {
        let largest = gradient.f_norm_scalaropt_dtype(f64::INFINITY, Kind::Float)?;
        kernels::adam::narrow_gradient(gradient, &largest, out).map_err(failed)?;
        Ok(largest)
    }

    fn narrow_direction(
        &self,
        (gradient, largest): (&mut Tensor, &Tensor),
        out: &mut Tensor,
        KernelMoments { first, second, key }: KernelMoments<'_>,
        (adam, scale): (&AdamStep, f64),
    ) -> Result<f64, TchError> {
        let step = -adam.step_size * scale;
        let power = power_of_two_in(step);
        let constants = constants(adam, step / power, key);
        let gradient = NarrowGradient { projected: gradient, largest };
        kernels::adam::narrow_direction(gradient, out, Moments { first, second }, &constants).map_err(failed)?;
        Ok(power)
    }

    fn read_master(
        &self,
        (weight, stored): (&Tensor, StoredWeight<'_>),
        factor: f64,
        master: &mut Tensor,
    ) -> Result<(), TchError> {
        kernels::adam::read_master(weight, format(stored), factor, master).map_err(failed)
    }

    fn write_master(
        &self,
        master: &Tensor,
        (weight, stored): (&Tensor, StoredWeight<'_>),
        factor: f64,
    ) -> Result<(), TchError> {
        let weight = Weight { values: &mut weight.shallow_clone(), format: format(stored) };
        kernels::adam::write_master(master, weight, factor).map_err(failed)
    }

    fn add_to_stack(
        &self,
        (product, factor): (&Tensor, f64),
        (weights, stored): (&Tensor, StoredStack<'_>),
        adam: &AdamStep,
    ) -> Result<(), TchError> {
        let format = match stored {
            StoredStack::HiddenBits(hidden) => StackFormat::HiddenBits(hidden),
            StoredStack::Stochastic(StackKeys { parameters, seed, step }) => {
                StackFormat::Stochastic(StackNoise { matrices: parameters, seed, step })
            }
            StoredStack::Nearest => StackFormat::Nearest,
        };
        let (decay_before, decay_after) = (adam.decay_before.unwrap_or(1.0), adam.decay_after.unwrap_or(1.0));
        let addition = Addition { product, factor, decay_before, decay_after };
        kernels::adam::add_to_stack(&mut weights.shallow_clone(), format, addition).map_err(failed)
    }

    fn two_norm(&self, tensor: &Tensor) -> Result<Tensor, TchError> {
        kernels::norm::two_norm(tensor).map_err(failed)
    }
}

fn format(stored: StoredWeight<'_>) -> WeightFormat<'_> {
    match stored {
        StoredWeight::Float => WeightFormat::Float,
        StoredWeight::HiddenBits(hidden) => WeightFormat::HiddenBits(hidden),
        StoredWeight::Stochastic { key } => WeightFormat::Stochastic { key },
        StoredWeight::Nearest => WeightFormat::Nearest,
    }
}

/// The numbers of a step for a kernel, with `step` as the factor on the direction.
fn constants(adam: &AdamStep, step: f64, moments_key: u64) -> Constants {
    Constants {
        beta1: adam.beta1,
        beta2: adam.beta2,
        epsilon: adam.epsilon,
        step,
        moments_key,
        root: adam.root_divisor,
        decay_before: adam.decay_before.unwrap_or(1.0),
        decay_after: adam.decay_after.unwrap_or(1.0),
    }
}

/// The largest power of two that is not above |x|; 1 where the inverse would be too large or too
/// small to multiply a weight by.
fn power_of_two_in(x: f64) -> f64 {
    let power = x.abs().log2().floor().exp2();
    if (1e-30..1e30).contains(&power) { power } else { 1.0 }
}

fn failed(error: torch_ext::Error) -> TchError {
    TchError::Torch(error.to_string())
}
