//! libtorch's blocked attention for the CPU, one call for each group of rows of the same length.

use super::{Gradients, Inputs, group_view, repeat_heads, sum_heads};
use crate::Error;
use crate::row_layout::RowGroup;
use tch::Tensor;

/// What one call saves for its backward.
#[derive(Debug)]
pub struct Group {
    rows: RowGroup,
    /// `[b, h, t, k]`.
    output: Tensor,
    /// `[b, t, h]`.
    logsumexp: Tensor,
}

pub(super) fn forward(inputs: Inputs<'_>) -> Result<(Tensor, Vec<Group>), Error> {
    let Inputs { query, key, value, rows, scale } = inputs;
    let (_, h, _) = query.size3()?;
    let output = query.f_empty_like()?;
    let mut groups = Vec::new();
    for rows in rows.groups() {
        let (group_output, logsumexp) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
            &group_view(query, &rows)?,
            &repeat_heads(&group_view(key, &rows)?, h)?,
            &repeat_heads(&group_view(value, &rows)?, h)?,
            0.0,
            true,
            None::<Tensor>,
            scale,
        )?;
        group_view(&output, &rows)?.f_copy_(&group_output)?;
        // A view into the whole output is kept instead of the kernel's own tensor, so that the
        // output is in memory once.
        groups.push(Group { rows, output: group_view(&output, &rows)?, logsumexp });
    }
    Ok((output, groups))
}

pub(super) fn backward(
    d_output: &Tensor,
    Inputs { query, key, value, scale, .. }: Inputs<'_>,
    groups: &[Group],
) -> Result<Gradients, Error> {
    let ((_, h, _), (_, g, _)) = (query.size3()?, key.size3()?);
    let gradients = Gradients { query: query.f_empty_like()?, key: key.f_empty_like()?, value: value.f_empty_like()? };
    for Group { rows, output, logsumexp } in groups {
        let (d_query, d_key, d_value) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
            &group_view(d_output, rows)?,
            &group_view(query, rows)?,
            &repeat_heads(&group_view(key, rows)?, h)?,
            &repeat_heads(&group_view(value, rows)?, h)?,
            output,
            logsumexp,
            0.0,
            true,
            None::<Tensor>,
            scale,
        )?;
        group_view(&gradients.query, rows)?.f_copy_(&d_query)?;
        group_view(&gradients.key, rows)?.f_copy_(&sum_heads(&d_key, g)?)?;
        group_view(&gradients.value, rows)?.f_copy_(&sum_heads(&d_value, g)?)?;
    }
    Ok(gradients)
}
