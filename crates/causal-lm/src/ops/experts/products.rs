//! Products of groups of rows, each with the matrix of its expert.
//!
//! Shapes: `r` rows of all groups, `e` experts.

use crate::Error;
use crate::ops::{accumulate, accumulate_product};
use tch::{Kind, Tensor};

/// Consecutive rows that belong to the same expert, from the first expert to the last.
#[derive(Debug)]
pub(super) enum Groups {
    /// The end of each group, int32 `[e]` on the device, for the grouped product of CUDA.
    OnDevice(Tensor),
    /// The rows of each group.
    OnHost(Vec<i64>),
}

impl Groups {
    /// The groups of `experts`, int64 `[r]` in any order, for products in `kind` of rows and
    /// matrices of these widths.
    pub(super) fn new(experts: &Tensor, num_experts: i64, kind: Kind, widths: [i64; 3]) -> Result<Self, Error> {
        let ones = experts.f_ones_like()?;
        let counts =
            Tensor::f_zeros([num_experts], (Kind::Int64, experts.device()))?.f_index_add_(0, experts, &ones)?;
        match has_grouped_product(experts, kind, widths) {
            true => Ok(Self::OnDevice(counts.f_cumsum(0, Kind::Int64)?.f_to_kind(Kind::Int)?)),
            false => Ok(Self::OnHost(Vec::<i64>::try_from(counts)?)),
        }
    }

    /// The rows of each group times its matrix: `[r, a]` and `[e, a, b]` → `[r, b]`.
    pub(super) fn product(&self, rows: &Tensor, matrices: &Tensor) -> Result<Tensor, Error> {
        match self {
            Self::OnDevice(ends) => Ok(rows.f_internal_grouped_mm(matrices, Some(ends), None, None)?),
            Self::OnHost(counts) => {
                let (num_rows, _) = rows.size2()?;
                let (_, _, width) = matrices.size3()?;
                let output = Tensor::f_empty([num_rows, width], (rows.f_kind()?, rows.device()))?;
                each_group(counts, |expert, start, count| {
                    let part = output.f_narrow(0, start, count)?;
                    let _ = rows.f_narrow(0, start, count)?.f_mm_out(&part, &matrices.f_get(expert)?)?;
                    Ok(())
                })?;
                Ok(output)
            }
        }
    }

    /// Adds the sum of outer products of each group's rows to the matrix of its expert: `[r, a]`
    /// and `[r, b]` to `[e, a, b]`.
    pub(super) fn add_outer_product(&self, matrices: &Tensor, left: &Tensor, right: &Tensor) -> Result<(), Error> {
        match self {
            Self::OnDevice(ends) => {
                let products = left.f_transpose(0, 1)?.f_internal_grouped_mm(right, Some(ends), None, None)?;
                accumulate(&mut matrices.shallow_clone(), &products)
            }
            Self::OnHost(counts) => each_group(counts, |expert, start, count| {
                let left = left.f_narrow(0, start, count)?.f_transpose(0, 1)?;
                accumulate_product(&mut matrices.f_get(expert)?, &left, &right.f_narrow(0, start, count)?)
            }),
        }
    }
}

/// libtorch's grouped product for CUDA takes bfloat16, in rows that begin at multiples of 16 bytes.
fn has_grouped_product(experts: &Tensor, kind: Kind, widths: [i64; 3]) -> bool {
    experts.device().is_cuda() && kind == Kind::BFloat16 && widths.iter().all(|width| width % 8 == 0)
}

/// Calls `each` with the expert, the first row and the number of rows of each group that has rows.
fn each_group(counts: &[i64], mut each: impl FnMut(i64, i64, i64) -> Result<(), Error>) -> Result<(), Error> {
    let mut start = 0;
    for (expert, count) in (0..).zip(counts) {
        if *count > 0 {
            each(expert, start, *count)?;
        }
        start += count;
    }
    Ok(())
}
