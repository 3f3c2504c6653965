//! What can be asked about a run without making it.

pub mod estimate;
pub mod inspect;
