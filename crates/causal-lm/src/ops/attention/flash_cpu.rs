//! libtorch's blocked attention for the CPU, one call for each group of rows of the same length.
//! Where the rows pass the window, there is one call for some queries of each of them.

use super::spans::{KeyGradient, Span};
use super::{Gradients, Inputs, Scores, group_view, repeat_heads};
use crate::Error;
use crate::row_layout::RowGroup;
use tch::Tensor;

/// What one call saves for its backward.
#[derive(Debug)]
pub struct Call {
    rows: RowGroup,
    span: Span,
    /// `[b, h, queries, k]`.
    output: Tensor,
    /// `[b, queries, h]`.
    logsumexp: Tensor,
}

fn spans(length: i64, scores: &Scores) -> Vec<Span> {
    match scores.window_within(length) {
        Some(_) => Span::parts(length, scores),
        None => vec![Span::whole(length)],
    }
}

/// The kernel's mask, for a span that needs one.
fn mask(span: Span, query: &Tensor) -> Result<Option<Tensor>, Error> {
    (!span.is_causal()).then(|| span.mask(query.f_kind()?, query.device())).transpose()
}

pub(super) fn forward(inputs: Inputs<'_>) -> Result<(Tensor, Vec<Call>), Error> {
    let Inputs { query, key, value, rows, scores } = inputs;
    let (_, h, _) = query.size3()?;
    let output = query.f_empty_like()?;
    let mut calls = Vec::new();
    for rows in rows.groups() {
        let (query, output) = (group_view(query, &rows)?, group_view(&output, &rows)?);
        let key = repeat_heads(&group_view(key, &rows)?, h)?;
        let value = repeat_heads(&group_view(value, &rows)?, h)?;
        for span in spans(rows.length, &scores) {
            let (call_output, logsumexp) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
                &span.queries(&query)?,
                &span.keys(&key)?,
                &span.keys(&value)?,
                0.0,
                span.is_causal(),
                mask(span, &query)?,
                scores.scale,
            )?;
            // A view into the whole output is kept instead of the kernel's own tensor, so that the
            // output is in memory once.
            let output = span.queries(&output)?;
            output.shallow_clone().f_copy_(&call_output)?;
            calls.push(Call { rows, span, output, logsumexp });
        }
    }
    Ok((output, calls))
}

pub(super) fn backward(
    d_output: &Tensor,
    Inputs { query, key, value, scores, .. }: Inputs<'_>,
    calls: &[Call],
) -> Result<Gradients, Error> {
    let (_, h, _) = query.size3()?;
    let gradients = Gradients { query: query.f_empty_like()?, key: key.f_empty_like()?, value: value.f_empty_like()? };
    for calls in calls.chunk_by(|call, next| call.rows == next.rows) {
        let rows = calls[0].rows;
        let (query, d_output) = (group_view(query, &rows)?, group_view(d_output, &rows)?);
        let key = repeat_heads(&group_view(key, &rows)?, h)?;
        let value = repeat_heads(&group_view(value, &rows)?, h)?;
        let d_query = group_view(&gradients.query, &rows)?;
        let mut d_key = KeyGradient::new(group_view(&gradients.key, &rows)?, calls.len())?;
        let mut d_value = KeyGradient::new(group_view(&gradients.value, &rows)?, calls.len())?;
        for Call { span, output, logsumexp, .. } in calls {
            let (d_query_part, d_key_part, d_value_part) =
                Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
                    &span.queries(&d_output)?,
                    &span.queries(&query)?,
                    &span.keys(&key)?,
                    &span.keys(&value)?,
                    output,
                    logsumexp,
                    0.0,
                    span.is_causal(),
                    mask(*span, &query)?,
                    scores.scale,
                )?;
            span.queries(&d_query)?.f_copy_(&d_query_part)?;
            d_key.add(*span, &d_key_part)?;
            d_value.add(*span, &d_value_part)?;
        }
        d_key.finish()?;
        d_value.finish()?;
    }
    Ok(gradients)
}
