//! CUDA graphs: a forward and backward that is recorded once and then launched as a whole.
//!
//! [`choose`] decides whether a model's passes are recorded and how batches should be padded so
//! that their shapes come again.

mod choice;
mod recording;

pub use choice::{BatchShapes, choose};
pub(crate) use recording::RecordedPasses;

use crate::{CausalLm, Error};
use serde::{Deserialize, Serialize};
use serde_plain::{derive_display_from_serialize, derive_fromstr_from_deserialize};

/// Whether forward and backward of a batch are recorded and launched as a whole.
///
/// It saves the host the time to launch each operation. That matters where launching takes longer
/// than the GPU's work: small models, short rows. Results are the same. The memory of recorded
/// passes stays reserved; all of them share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CudaGraphs {
    /// Every pass launches its operations one by one.
    #[default]
    Off,
    /// The first batch of a shape runs operation by operation, the second is recorded, later ones
    /// are launched. Batches have few shapes when they are
    /// [padded to buckets](crate::TokenBatch::padded_to_bucket). It has no effect where operations
    /// depend on more than the batch's shape: on the CPU, with eager attention, with dynamic rope.
    On,
}

derive_display_from_serialize!(CudaGraphs);
derive_fromstr_from_deserialize!(CudaGraphs);

impl CausalLm {
    /// Changes whether passes are recorded. Recorded passes are forgotten.
    pub fn set_cuda_graphs(&mut self, cuda_graphs: CudaGraphs) {
        self.options.cuda_graphs = cuda_graphs;
        self.forget_recorded_passes();
    }

    /// Why passes are no longer recorded although they should be, once recording has failed.
    pub fn cuda_graphs_failure(&self) -> Option<&Error> {
        self.recorded_passes.failure()
    }

    pub(crate) fn forget_recorded_passes(&mut self) {
        self.recorded_passes = RecordedPasses::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_on_and_off() {
        for (name, graphs) in [("on", CudaGraphs::On), ("off", CudaGraphs::Off)] {
            assert_eq!(name.parse::<CudaGraphs>().unwrap(), graphs);
            assert_eq!(graphs.to_string(), name);
        }
        assert!("true".parse::<CudaGraphs>().is_err());
    }
}
