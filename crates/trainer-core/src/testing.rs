//! Test doubles, for tests and examples of this crate and of others: a toy learner with its data, a
//! minimal store, a callback that records events, and a recorder of `tracing` events and spans.

mod recorder;
mod toy;
mod trace;

pub use recorder::{Expected, Recorded, Recorder, Recording};
pub use toy::{PlainFolder, PlainStore, ToyBatch, ToyLearner, ToySource};
pub use trace::{TraceRecording, Traced};
