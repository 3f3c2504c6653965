//! Orthonormal columns.

use tch::{TchError, Tensor};

/// Orthonormal columns whose first `i` span the first `i` of `columns [b, n, r]`, for every `i`,
/// each with the sign that points along its column. Columns of zeros and columns that depend on
/// earlier ones become any that are orthogonal to the others.
pub(super) fn columns(columns: &Tensor) -> Result<Tensor, TchError> {
    let norms = columns.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
    let unit = columns.f_div(&norms.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
    let (orthonormal, triangle) = Tensor::f_linalg_qr(&unit, "reduced")?;
    let sign = signs(&triangle.f_diagonal(0, 1, 2)?)?;
    orthonormal.f_mul(&sign.f_unsqueeze(1)?)
}

/// 1 where a number is at least 0, else −1.
pub(super) fn signs(numbers: &Tensor) -> Result<Tensor, TchError> {
    numbers.f_ge(0.0)?.f_to_kind(numbers.f_kind()?)?.f_mul_scalar_(2.0)?.f_sub_scalar_(1.0)
}
