//! Norm and clipping of gradients as in `torch.nn.utils.clip_grad_norm_`, without waiting for the
//! device.

use crate::Error;
use crate::accelerated::{catch_scalar_panic, fused_kernels};
use tch::{Device, Kind, TchError, Tensor};

/// The 2-norm of all gradients taken as one vector: a float32 scalar tensor on the first gradient's
/// device.
///
/// # Errors
/// [`Error::Torch`] if a tensor operation or a kernel fails.
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
        Err(norms) => Ok(norm(&Tensor::f_stack(&norms, 0)?)?),
    }
}

/// The 2-norm of one tensor.
fn norm(tensor: &Tensor) -> Result<Tensor, TchError> {
    match fused_kernels(&[tensor]) {
        Some(kernels) if tensor.device().is_cuda() => kernels.two_norm(tensor),
        _ => norm_in_pieces(tensor),
    }
}

/// The norm by libtorch's operations, of a large tensor in pieces. libtorch adds up squares in
/// float32 one after the other, which is off by some 10⁻⁵ over 10⁶ elements.
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
    // A coefficient on the CPU can be read without waiting. Most steps then need no pass over the
    // gradients. The others need a faster one: on a GPU, multiplication by a number reaches three
    // times the bandwidth of multiplication by a tensor.
    if coefficient.device() == Device::Cpu {
        let coefficient = coefficient.f_double_value(&[])?;
        for gradient in gradients.iter().filter(|_| coefficient != 1.0) {
            gradient.shallow_clone().f_mul_scalar_(coefficient).map(drop)?;
        }
        return Ok(());
    }
    for gradient in gradients {
        gradient.shallow_clone().f_mul_(&coefficient.f_to_device(gradient.device())?).map(drop)?;
    }
    Ok(())
}
