//! Norm and clipping of gradients as `torch.nn.utils.clip_grad_norm_` does it, without waiting for
//! the device.

use crate::Error;
use crate::in_place::InPlace;
use tch::{Device, Kind, TchError, Tensor};
use torch_ext::{catch_scalar_panic, kernels};

/// The 2-norm of all gradients taken as one vector: a float32 scalar tensor on the first gradient's
/// device.
///
/// # Errors
/// [`Error::Torch`] if a tensor operation fails, [`Error::TorchExt`] if a kernel does.
pub fn global_gradient_norm(gradients: &[&Tensor]) -> Result<Tensor, Error> {
    catch_scalar_panic(|| norm_of_all(gradients))
}

fn norm_of_all(gradients: &[&Tensor]) -> Result<Tensor, Error> {
    let Some(first) = gradients.first() else {
        return Ok(Tensor::f_zeros([0i64; 0], (Kind::Float, Device::Cpu))?);
    };
    let device = first.device();
    let norms =
        gradients.iter().map(|gradient| Ok(norm(gradient)?.f_to_device(device)?)).collect::<Result<Vec<_>, Error>>()?;
    match <[Tensor; 1]>::try_from(norms) {
        Ok([norm]) => Ok(norm),
        Err(norms) => norm(&Tensor::f_stack(&norms, 0)?),
    }
}

/// The 2-norm of one tensor.
fn norm(tensor: &Tensor) -> Result<Tensor, Error> {
    if kernels::available(&[tensor]) {
        return Ok(kernels::norm::two_norm(tensor)?);
    }
    Ok(norm_in_pieces(tensor)?)
}

/// In libtorch's operations, a large one in pieces: squares are added up in float32 one after the
/// other, which over 10⁶ elements is off by some 10⁻⁵.
fn norm_in_pieces(tensor: &Tensor) -> Result<Tensor, TchError> {
    const PIECE: i64 = 4096;
    let whole = |tensor: &Tensor| tensor.f_norm_scalaropt_dtype(2, Kind::Float);
    let flat = tensor.f_reshape([-1])?;
    let numel = i64::try_from(flat.numel()).unwrap_or(i64::MAX);
    let (pieces, rest) = (numel / PIECE, numel % PIECE);
    if pieces < 2 {
        return whole(&flat);
    }
    let rows = flat.f_narrow(0, 0, pieces * PIECE)?.f_view([pieces, PIECE])?;
    let mut norms =
        vec![norm_in_pieces(&rows.f_norm_scalaropt_dim_dtype(2, [1i64].as_slice(), false, Kind::Float)?)?];
    if rest > 0 {
        norms.push(whole(&flat.f_narrow(0, pieces * PIECE, rest)?)?);
    }
    whole(&Tensor::f_stack(&norms, 0)?)
}

/// Scales gradients in place by `min(1, max_norm / (norm + 1e-6))`, with `norm` from
/// [`global_gradient_norm`], on any device.
///
/// # Errors
/// [`Error::Torch`] if a tensor operation fails.
pub fn clip_gradients(gradients: &[Tensor], max_norm: f64, norm: &Tensor) -> Result<(), Error> {
    catch_scalar_panic(|| clip(gradients, max_norm, norm))
}

fn clip(gradients: &[Tensor], max_norm: f64, norm: &Tensor) -> Result<(), Error> {
    let coefficient = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(max_norm)?.f_clamp_max(1.0)?;
    // On the CPU a look at the coefficient is free. Most steps then need no pass over the
    // gradients, and the others a faster one: on a GPU multiplication by a number reaches three
    // times the bandwidth of that by a tensor.
    if coefficient.device() == Device::Cpu {
        let coefficient = coefficient.f_double_value(&[])?;
        for gradient in gradients.iter().filter(|_| coefficient != 1.0) {
            gradient.shallow_clone().f_mul_scalar_(coefficient).done()?;
        }
        return Ok(());
    }
    for gradient in gradients {
        gradient.shallow_clone().f_mul_(&coefficient.f_to_device(gradient.device())?).done()?;
    }
    Ok(())
}
