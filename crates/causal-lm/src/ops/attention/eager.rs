//! Attention as the formula is written. It is the reference, and what runs where there is no flash
//! kernel.

use super::spans::{KeyGradient, Span};
use super::{Gradients, Inputs, Scores, group_view, repeat_heads};
use crate::Error;
use crate::ops::wide_kind;
use tch::Tensor;

/// The probabilities of a span, and what the backward of capped scores needs. All are
/// `[b, h, queries, keys]`, in float32 or wider.
struct Probabilities {
    /// P = softmax of the scores that are not hidden.
    softmax: Tensor,
    /// tanh(s / c), where s are the scaled products.
    capped: Option<Tensor>,
}

fn probabilities(query: &Tensor, key: &Tensor, scores: Scores, span: Span) -> Result<Probabilities, Error> {
    let wide = wide_kind(query.f_kind()?);
    let mut values = query.f_matmul(&key.f_transpose(2, 3)?)?.f_to_kind(wide)?.f_mul_scalar_(scores.scale)?;
    let mut capped = None;
    if let Some(cap) = scores.soft_cap {
        let tanh = values.f_div_scalar_(cap)?.f_tanh_()?;
        values = tanh.f_mul_scalar(cap)?;
        capped = Some(tanh);
    }
    let hidden = span.hidden(query.device())?;
    Ok(Probabilities { softmax: values.f_masked_fill_(&hidden, f64::NEG_INFINITY)?.f_softmax(3, wide)?, capped })
}

/// Parts are used where they are needed: a window makes most of the matrix empty, and capped scores
/// have no other implementation.
fn spans(length: i64, scores: &Scores) -> Vec<Span> {
    match scores.soft_cap.is_some() || scores.window_within(length).is_some() {
        true => Span::parts(length, scores),
        false => vec![Span::whole(length)],
    }
}

pub(super) fn forward(inputs: Inputs<'_>) -> Result<Tensor, Error> {
    let Inputs { query, key, value, rows, scores } = inputs;
    let (_, h, _) = query.size3()?;
    let output = query.f_empty_like()?;
    for rows in rows.groups() {
        let (query, output) = (group_view(query, &rows)?, group_view(&output, &rows)?);
        let value = repeat_heads(&group_view(value, &rows)?, h)?;
        let key = repeat_heads(&group_view(key, &rows)?, h)?;
        for span in spans(rows.length, &scores) {
            let softmax = probabilities(&span.queries(&query)?, &span.keys(&key)?, scores, span)?.softmax;
            let result = softmax.f_to_kind(value.f_kind()?)?.f_matmul(&span.keys(&value)?)?;
            span.queries(&output)?.f_copy_(&result)?;
        }
    }
    Ok(output)
}

/// With P the probabilities, S the scores and s the scaled products:
/// dv = Pᵀ do; dP = do vᵀ; dS = P (dP − Σ P dP); ds = dS (1 − tanh²(s / c)), or dS if scores are
/// not capped; dq = ds k · scale; dk = dsᵀ q · scale.
pub(super) fn backward(
    d_output: &Tensor,
    Inputs { query, key, value, rows, scores }: Inputs<'_>,
) -> Result<Gradients, Error> {
    let (_, h, _) = query.size3()?;
    let kind = query.f_kind()?;
    let gradients = Gradients { query: query.f_empty_like()?, key: key.f_empty_like()?, value: value.f_empty_like()? };
    for rows in rows.groups() {
        let (query, d_output) = (group_view(query, &rows)?, group_view(d_output, &rows)?);
        let key = repeat_heads(&group_view(key, &rows)?, h)?;
        let value = repeat_heads(&group_view(value, &rows)?, h)?;
        let d_query = group_view(&gradients.query, &rows)?;
        let spans = spans(rows.length, &scores);
        let mut d_key = KeyGradient::new(group_view(&gradients.key, &rows)?, spans.len())?;
        let mut d_value = KeyGradient::new(group_view(&gradients.value, &rows)?, spans.len())?;
        for span in &spans {
            let (query, d_output) = (span.queries(&query)?, span.queries(&d_output)?);
            let (key, value) = (span.keys(&key)?, span.keys(&value)?);
            let Probabilities { softmax, capped } = probabilities(&query, &key, scores, *span)?;
            let d_value_part = softmax.f_to_kind(kind)?.f_transpose(2, 3)?.f_matmul(&d_output)?;
            let d_softmax = d_output.f_matmul(&value.f_transpose(2, 3)?)?.f_to_kind(wide_kind(kind))?;
            let mut weighted = softmax.f_mul(&d_softmax)?;
            let row_sums = weighted.f_sum_dim_intlist(3, true, None)?;
            let mut d_scores = weighted.f_sub_(&softmax.f_mul(&row_sums)?)?.f_mul_scalar_(scores.scale)?;
            if let Some(mut tanh) = capped {
                let slope = tanh.f_square_()?.f_neg_()?.f_add_scalar_(1.0)?;
                d_scores = d_scores.f_mul_(&slope)?;
            }
            let d_scores = d_scores.f_to_kind(kind)?;
            span.queries(&d_query)?.f_copy_(&d_scores.f_matmul(&key)?)?;
            d_key.add(*span, &d_scores.f_transpose(2, 3)?.f_matmul(&query)?)?;
            d_value.add(*span, &d_value_part)?;
        }
        d_key.finish()?;
        d_value.finish()?;
    }
    Ok(gradients)
}
