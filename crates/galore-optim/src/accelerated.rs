//! The one place that knows whether the feature `fused-kernels` is on. With it, the functions here
//! call torch-ext. Without it, they give the plain answer: no kernel takes anything, eigenvectors
//! come from libtorch's own solver, products stay in float32, and memory is not measured.

#![cfg_attr(not(feature = "fused-kernels"), expect(dead_code, reason = "only kernels read their operands"))]

#[cfg_attr(feature = "fused-kernels", path = "accelerated/with_torch_ext.rs")]
#[cfg_attr(not(feature = "fused-kernels"), path = "accelerated/plain.rs")]
mod backend;

use crate::adam::AdamStep;
use tch::{TchError, Tensor};

pub(crate) use self::backend::{allow_tf32, catch_scalar_panic, device_memory, eigenvectors, fused_kernels};

/// How a kernel finds a weight stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoredWeight<'a> {
    /// float32.
    Float,
    /// bfloat16, with the low 16 bits of the float32 master, int16, beside it.
    HiddenBits(&'a Tensor),
    /// bfloat16, rounded stochastically with the random bits of `key`.
    Stochastic { key: u64 },
    /// bfloat16, rounded to nearest.
    Nearest,
}

/// The moments that a kernel updates.
pub(crate) struct KernelMoments<'a> {
    pub(crate) first: &'a mut Tensor,
    pub(crate) second: &'a mut Tensor,
    /// Keys the random bits that bfloat16 moments are rounded with in this step.
    pub(crate) key: u64,
}

/// The random bits that a stack of weights is rounded with in one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StackKeys<'a> {
    /// A number for each parameter, int64, on the device of the stack.
    pub(crate) parameters: &'a Tensor,
    pub(crate) seed: u64,
    /// The step, mixed as in [`Noise::key`](crate::master::Noise::key).
    pub(crate) step: u64,
}

/// How a kernel finds the weights of a stack stored: bfloat16.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoredStack<'a> {
    /// With the low 16 bits of the float32 masters, int16, beside them.
    HiddenBits(&'a Tensor),
    /// Rounded stochastically.
    Stochastic(StackKeys<'a>),
    /// Rounded to nearest.
    Nearest,
}

/// A step by fused kernels. Each makes one pass over memory where the plain path makes a dozen.
pub(crate) trait FusedKernels {
    /// One step of a whole weight.
    fn update(
        &self,
        weight: (&Tensor, StoredWeight<'_>),
        gradient: &Tensor,
        moments: KernelMoments<'_>,
        adam: &AdamStep,
    ) -> Result<(), TchError>;

    /// Replaces a projected gradient (float32) by the step in the subspace, times `scale`.
    fn direction(
        &self,
        gradient: &mut Tensor,
        moments: KernelMoments<'_>,
        adam: &AdamStep,
        scale: f64,
    ) -> Result<(), TchError>;

    /// Writes a gradient as float16, times a power of two that keeps it in range. Returns the
    /// gradient's largest absolute value, which determines that power.
    fn narrow_gradient(&self, gradient: &Tensor, out: &mut Tensor) -> Result<Tensor, TchError>;

    /// As [`FusedKernels::direction`], from the projection of a
    /// [`FusedKernels::narrow_gradient`] and its `largest` value to a float16 step in `out`.
    ///
    /// The step must be multiplied by the power of two that this returns. The power takes the
    /// magnitude of the learning rate out of the step, which leaves a factor between 1 and 2, far
    /// from the limits of float16.
    fn narrow_direction(
        &self,
        gradient_and_largest: (&mut Tensor, &Tensor),
        out: &mut Tensor,
        moments: KernelMoments<'_>,
        adam_and_scale: (&AdamStep, f64),
    ) -> Result<f64, TchError>;

    /// `master` (float32) ← the weight times `factor`.
    fn read_master(
        &self,
        weight: (&Tensor, StoredWeight<'_>),
        factor: f64,
        master: &mut Tensor,
    ) -> Result<(), TchError>;

    /// The weight ← `master` (float32) times `factor`.
    fn write_master(&self, master: &Tensor, weight: (&Tensor, StoredWeight<'_>), factor: f64) -> Result<(), TchError>;

    /// Each weight of a stack on a GPU, bfloat16: `w ← (w · before + factor · product) · after`,
    /// with the decay of `adam`. The product is float32.
    fn add_to_stack(
        &self,
        product_and_factor: (&Tensor, f64),
        weights: (&Tensor, StoredStack<'_>),
        adam: &AdamStep,
    ) -> Result<(), TchError>;

    /// The 2-norm of a tensor on a GPU, a float32 scalar.
    fn two_norm(&self, tensor: &Tensor) -> Result<Tensor, TchError>;
}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceMemory {
    /// What tensors hold now.
    pub(crate) current: u64,
    /// The most that tensors have held.
    pub(crate) peak: u64,
    /// What tensors could still take. Other processes may take it first.
    pub(crate) available: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_failed_call_that_takes_a_number_is_an_error() {
        // 2⁵⁸ elements, all of them one.
        let large = Tensor::ones([1], (Kind::Float, Device::Cpu)).expand([1 << 58], false);
        let error = catch_scalar_panic(|| large.f_mul_scalar(2.0)).unwrap_err();
        assert!(matches!(&error, TchError::Torch(message) if !message.contains("unwrap")), "{error}");
        let other = std::panic::catch_unwind(|| catch_scalar_panic(|| -> Result<(), TchError> { panic!("other") }));
        assert_eq!(other.unwrap_err().downcast_ref::<&str>(), Some(&"other"));
    }

    #[test]
    fn eigenvectors_are_rows_smallest_eigenvalue_first() {
        let matrices = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 3.0, 5.0, 0.0, 0.0, 2.0]).view([2, 2, 2]);
        let vectors = eigenvectors(matrices).unwrap().abs();
        let expected = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]).view([2, 2, 2]);
        assert!((vectors - expected).abs().max().double_value(&[]) < 1e-6);
    }
}
