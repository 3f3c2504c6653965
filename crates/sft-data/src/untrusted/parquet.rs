//! Limits on Parquet files.
//!
//! The library allocates what a page header asks for before it reads the page, so the headers are
//! checked first ([`pages`]). With dictionary encoding, a small file can repeat a large value in
//! every row, so the total size of the rows is limited ([`RowBudget`]). The library also panics on
//! some damaged files ([`catch_panics`]).

mod pages;

use super::row_budget::RowBudget;
use super::{panics, regular_file};
use crate::Error;
use pages::Column;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;
use std::path::Path;

/// Runs `work` on a Parquet file, and returns an error if the library panics.
pub(crate) fn catch_panics<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    panics::catch(work).unwrap_or_else(|_| {
        let problem = "cannot be read as Parquet (it is damaged); fetch it again".to_owned();
        Err(Error::BadFile { path: path.to_owned(), problem })
    })
}

/// Checks the page headers of all columns that are to be read, and returns the budget for the rows.
pub(crate) fn after_page_check<'a>(
    path: &'a Path,
    reader: &SerializedFileReader<File>,
    columns: &[&str],
) -> Result<RowBudget<'a>, Error> {
    let failed = |source| Error::io(path, source);
    let file = regular_file::open(path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    for chunk in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let name = chunk.column_path().parts().first();
        if !name.is_some_and(|name| columns.contains(&name.as_str())) {
            continue;
        }
        let (start, length) = chunk.byte_range();
        let num_values = u64::try_from(chunk.num_values()).unwrap_or(0);
        let column = Column { start, length: length.min(file_bytes.saturating_sub(start)), num_values };
        pages::check(&file, &column).map_err(|error| {
            let problem =
                format!("cannot be read as Parquet (column {} has {error}); fetch it again", chunk.column_path());
            Error::BadFile { path: path.to_owned(), problem }
        })?;
    }
    Ok(RowBudget::of_file(path, file_bytes))
}
