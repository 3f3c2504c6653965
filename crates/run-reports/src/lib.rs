//! Where a training run reports to, besides the files that every run writes.
//!
//! ```text
//! on_train_begin, on_log, on_save, on_train_end
//!         │
//!         ▼                     ┌─ TensorBoard    logging_dir/events.out.tfevents.*
//!      Reports ── Reporter ─────┼─ CsvFile        output_dir/metrics.csv
//!     (a callback)              └─ HtmlReport     output_dir/report.html
//! ```
//!
//! [`Destination`] has the names of `report_to`: those that are here, and why the others are not.
//! [`Reports`] is the callback. A report that cannot be written never ends a run: it is told once,
//! by a `tracing` warning.
//!
//! ```
//! use run_reports::{Destination, Places, Reports};
//! use trainer_core::testing::{ToyLearner, ToySource};
//! use trainer_core::{SaveStrategy, Trainer, TrainingArguments};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let output_dir = dir.path().to_owned();
//! let destinations = Destination::from_names(&["csv".to_owned()])?;
//! let reports = Reports::new(&destinations, Places::new(&output_dir));
//! let arguments = TrainingArguments {
//!     logging_steps: 1.0,
//!     save_strategy: SaveStrategy::No,
//!     output_dir: output_dir.clone(),
//!     ..Default::default()
//! };
//! let train = ToySource::new(16, 8);
//! Trainer::builder(arguments, &mut ToyLearner::default(), &train).callback(reports).build()?.train()?;
//! assert!(std::fs::read_to_string(output_dir.join("metrics.csv"))?.starts_with("step,epoch,loss,"));
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod csv_file;
mod destination;
mod error;
mod html;
mod reporter;
mod run_record;
mod tensorboard;
mod whole_file;

pub use csv_file::CsvFile;
pub use destination::Destination;
pub use error::Error;
pub use html::{HtmlReport, page};
/// Parts of pages, for other pages in the same style.
pub mod markup {
    pub use crate::html::{Words, card, escaped, framed};
}
pub use reporter::{Places, Reporter, Reports};
pub use run_record::RunRecord;
pub use tensorboard::TensorBoard;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
