//! Writes one page about the runs in some folders: `compare PAGE.html DIR...`

use run_reports::{RunRecord, page};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (to, folders) = arguments.split_first().ok_or("usage: compare PAGE.html DIR...")?;
    let runs = folders.iter().map(|folder| RunRecord::read(Path::new(folder))).collect::<Result<Vec<_>, _>>()?;
    Ok(std::fs::write(to, page(&runs))?)
}
