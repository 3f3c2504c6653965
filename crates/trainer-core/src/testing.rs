//! A toy to drive the loop with, and a callback that records what it sees. For tests and examples,
//! here and elsewhere.

mod recorder;
mod toy;
mod trace;

pub use recorder::{Expected, Recorded, Recorder, Recording};
pub use toy::{PlainFolder, PlainStore, ToyBatch, ToyLearner, ToySource};
pub use trace::{TraceRecording, Traced};
