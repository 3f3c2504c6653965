//! Sums over the rows of a matrix, added to a gradient.

use super::{Argument, Grid, Source, Width, check, element_kind, empty, launch, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "column_sum";
/// The number of rows of partial sums. With the columns of a bias these are enough threads to fill
/// a large GPU, and the sums stay in its cache.
const MAX_CHUNKS: i64 = 256;
const PARTIAL_THREADS: u32 = 128;

/// Returns whether [`add`] can take these operands: x `[rows, columns]`, which may be columns of a
/// wider matrix, and a contiguous gradient, as for [`kernels::available`].
///
/// [`kernels::available`]: super::available
pub fn available(x: &Tensor, gradient: &Tensor) -> bool {
    row_stride(x).is_some()
        && x.device() == gradient.device()
        && matches!(x.f_kind(), Ok(Kind::Float | Kind::BFloat16))
        && super::available(&[gradient])
}

/// The distance between two rows of a matrix on a GPU, in elements. `None` if the elements of a row
/// do not lie side by side.
fn row_stride(x: &Tensor) -> Option<i64> {
    let (_, columns) = x.size2().ok()?;
    match x.stride()[..] {
        [stride, 1] if x.device().is_cuda() && stride >= columns => Some(stride),
        _ => None,
    }
}

/// Adds the sum over the rows of x `[rows, columns]` to gradient `[columns]`. Each is float32 or
/// bfloat16. x may be columns of a wider matrix.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn add(x: &Tensor, gradient: &mut Tensor) -> Result<(), Error> {
    let kind = element_kind(NAME, x)?;
    let (rows, columns) = torch(NAME, x.size2())?;
    let Some(stride) = row_stride(x) else {
        let expected = "a matrix on a GPU whose rows are contiguous".to_owned();
        return Err(Error::Operand {
            kernel: NAME,
            operand: "x",
            expected,
            found: format!("strides {:?}", x.stride()),
        });
    };
    let chunks = MAX_CHUNKS.min((rows + 7) / 8);
    let partial = empty(NAME, &[chunks, columns], Kind::Float, x)?;
    let width = if stride % 8 == 0 { Width::of(&[x], kind, columns, 8) } else { Width(1) };
    let per_block = i64::from(PARTIAL_THREADS) * width.0;
    let tiles = (columns + per_block - 1) / per_block;
    let sizes = [rows, columns, chunks, tiles, stride].map(Argument::Long);
    let arguments = [&[pointer(x), pointer(&partial)], &sizes[..]].concat();
    let grid = Grid { blocks: chunks * tiles, threads: PARTIAL_THREADS, ..Grid::default() };
    launch(&source(kind, width), "column_partial", grid, x, &arguments)?;
    add_partial(&partial, gradient)
}

/// Does the same as [`add`] for the float32 sums of up to a thousand blocks.
pub(super) fn add_partial(partial: &Tensor, gradient: &mut Tensor) -> Result<(), Error> {
    let kind = element_kind(NAME, gradient)?;
    let (rows, columns) = torch(NAME, partial.size2())?;
    check(NAME, "partial", partial, partial, Kind::Float, rows * columns)?;
    check(NAME, "gradient", gradient, partial, kind, columns)?;
    let sizes = [rows, columns].map(Argument::Long);
    let arguments = [&[pointer(partial), pointer(gradient)], &sizes[..]].concat();
    let grid = Grid { blocks: (columns + 31) / 32, threads: 1024, ..Grid::default() };
    launch(&source(kind, Width(1)), "column_add", grid, partial, &arguments)
}

fn source(kind: Kind, width: Width) -> Source<'static> {
    Source { name: NAME, text: include_str!("column_sum/kernel.cu"), kind, width, definitions: &[] }
}
