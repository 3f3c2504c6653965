//! Rows set aside for evaluation: the same rows that `Dataset.train_test_split(test_size, seed)` of
//! the `datasets` library sets aside.
//!
//! The library permutes the rows with `numpy.random.default_rng(seed)`. NumPy's shuffle is
//! implemented here.

use super::numpy::Generator;
use crate::Error;
use crate::error::grouped;

/// Splits rows at random into `(train, test)`. `test_size` is the size of `test`: a fraction below
/// 1, or a whole number of rows.
pub(super) fn train_test_split<T>(rows: Vec<T>, test_size: f64, seed: u64) -> Result<(Vec<T>, Vec<T>), Error> {
    let num_test = num_test_rows(rows.len(), test_size)?;
    let order = permutation(rows.len(), seed);
    let mut rows: Vec<Option<T>> = rows.into_iter().map(Some).collect();
    let mut take = |indices: &[usize]| indices.iter().filter_map(|&index| rows[index].take()).collect::<Vec<T>>();
    let test = take(&order[..num_test]);
    Ok((take(&order[num_test..]), test))
}

fn num_test_rows(num_rows: usize, test_size: f64) -> Result<usize, Error> {
    let wrong = |fix: String| Error::config("test_size", test_size, fix);
    let num_test = if test_size > 0.0 && test_size < 1.0 {
        (test_size * num_rows as f64).ceil() as usize
    } else if test_size >= 1.0 && test_size.fract() == 0.0 {
        test_size as usize
    } else {
        return Err(wrong("a fraction between 0 and 1, or a whole number of rows".to_owned()));
    };
    if num_rows == 1 {
        return Err(wrong("the split has only one row, which is needed to train on: use more rows".to_owned()));
    }
    if num_test >= num_rows {
        let rows = grouped(num_rows as u64);
        return Err(wrong(format!("less than the {rows} rows of the split, so that at least one is left to train on")));
    }
    Ok(num_test)
}

/// `numpy.random.default_rng(seed).permutation(length)`.
fn permutation(length: usize, seed: u64) -> Vec<usize> {
    let mut generator = Generator::new(seed);
    let mut order: Vec<usize> = (0..length).collect();
    for i in (1..length).rev() {
        let j = generator.up_to(i as u64) as usize;
        order.swap(i, j);
    }
    order
}

#[cfg(test)]
mod tests;
