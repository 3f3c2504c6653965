//! Attention as the formula is written. It is the reference, and what runs where there is no flash
//! kernel.

use super::{Gradients, Inputs, group_view, repeat_heads, sum_heads};
use crate::Error;
use crate::ops::wide_kind;
use tch::{Kind, Tensor};

/// P = softmax(q kᵀ · scale) with the future masked, `[b, h, t, t]` in float32 or wider.
fn probabilities(query: &Tensor, key: &Tensor, scale: f64) -> Result<Tensor, Error> {
    let (_, _, t, _) = query.size4()?;
    let wide = wide_kind(query.f_kind()?);
    let scores = query.f_matmul(&key.f_transpose(2, 3)?)?.f_to_kind(wide)?.f_mul_scalar(scale)?;
    let future = Tensor::f_ones([t, t], (Kind::Bool, query.device()))?.f_triu(1)?;
    Ok(scores.f_masked_fill(&future, f64::NEG_INFINITY)?.f_softmax(3, wide)?)
}

pub(super) fn forward(inputs: Inputs<'_>) -> Result<Tensor, Error> {
    let Inputs { query, key, value, rows, scale } = inputs;
    let (_, h, _) = query.size3()?;
    let output = query.f_empty_like()?;
    for rows in rows.groups() {
        let value = repeat_heads(&group_view(value, &rows)?, h)?;
        let key = repeat_heads(&group_view(key, &rows)?, h)?;
        let probabilities = probabilities(&group_view(query, &rows)?, &key, scale)?;
        group_view(&output, &rows)?.f_copy_(&probabilities.f_to_kind(value.f_kind()?)?.f_matmul(&value)?)?;
    }
    Ok(output)
}

/// With P the probabilities:
/// dv = Pᵀ do; dP = do vᵀ; dS = P (dP − Σ P dP) · scale; dq = dS k; dk = dSᵀ q.
pub(super) fn backward(
    d_output: &Tensor,
    Inputs { query, key, value, rows, scale }: Inputs<'_>,
) -> Result<Gradients, Error> {
    let ((_, h, _), (_, g, _)) = (query.size3()?, key.size3()?);
    let kind = query.f_kind()?;
    let gradients = Gradients { query: query.f_empty_like()?, key: key.f_empty_like()?, value: value.f_empty_like()? };
    for rows in rows.groups() {
        let (query, d_output) = (group_view(query, &rows)?, group_view(d_output, &rows)?);
        let key = repeat_heads(&group_view(key, &rows)?, h)?;
        let value = repeat_heads(&group_view(value, &rows)?, h)?;
        let probabilities = probabilities(&query, &key, scale)?;
        let d_value = probabilities.f_to_kind(kind)?.f_transpose(2, 3)?.f_matmul(&d_output)?;
        let d_probabilities = d_output.f_matmul(&value.f_transpose(2, 3)?)?.f_to_kind(wide_kind(kind))?;
        let mut weighted = probabilities.f_mul(&d_probabilities)?;
        let row_sums = weighted.f_sum_dim_intlist(3, true, None)?;
        let d_scores = weighted.f_sub_(&probabilities.f_mul(&row_sums)?)?.f_mul_scalar_(scale)?.f_to_kind(kind)?;
        group_view(&gradients.query, &rows)?.f_copy_(&d_scores.f_matmul(&key)?)?;
        let d_key = d_scores.f_transpose(2, 3)?.f_matmul(&query)?;
        group_view(&gradients.key, &rows)?.f_copy_(&sum_heads(&d_key, g)?)?;
        group_view(&gradients.value, &rows)?.f_copy_(&sum_heads(&d_value, g)?)?;
    }
    Ok(gradients)
}
