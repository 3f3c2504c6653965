//! Norm and clipping of gradients as `torch.nn.utils.clip_grad_norm_` does it, without waiting for the device.

use tch::{Device, Kind, TchError, Tensor};

use crate::Error;
use crate::in_place::InPlace;

/// The 2-norm of all gradients taken as one vector: a float32 scalar tensor on the first gradient's device.
///
/// # Errors
/// [`Error::Torch`] if a tensor operation fails.
pub fn global_gradient_norm(gradients: &[&Tensor]) -> Result<Tensor, Error> {
    let Some(first) = gradients.first() else {
        return Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, Device::Cpu))?);
    };
    let device = first.device();
    let norms = gradients
        .iter()
        .map(|gradient| gradient.f_norm_scalaropt_dtype(2, Kind::Float)?.f_to_device(device))
        .collect::<Result<Vec<_>, TchError>>()?;
    Ok(Tensor::f_stack(&norms, 0)?.f_norm_scalaropt_dtype(2, Kind::Float)?)
}

/// Scales gradients in place by `min(1, max_norm / (norm + 1e-6))`, with `norm` from [`global_gradient_norm`].
///
/// # Errors
/// [`Error::Torch`] if a tensor operation fails.
pub fn clip_gradients(gradients: &[Tensor], max_norm: f64, norm: &Tensor) -> Result<(), Error> {
    let coefficient = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(max_norm)?.f_clamp_max(1.0)?;
    // On the CPU a look at the coefficient is free, and most steps need no pass over the gradients.
    if coefficient.device() == Device::Cpu && coefficient.f_double_value(&[])? == 1.0 {
        return Ok(());
    }
    for gradient in gradients {
        gradient.shallow_clone().f_mul_(&coefficient.f_to_device(gradient.device())?).done()?;
    }
    Ok(())
}
