//! The callbacks of the documented run, and what a callback of your own is written with.

pub use crate::signals::{OnSignal, Signals};
pub use checkpoint_callbacks::{BestModelCheckpointCallback, EarlyStopping, LossSpike, Rotation};
pub use run_reports::{Destination, HtmlReport, Places, Reporter, Reports, RunRecord, page as report_page};
pub use trainer_core::{BoxError, Callback, CallbackContext, EventResult, LogEntry, MetricsFile, Requests};
