//! The error of a learner that runs out of memory.

use crate::BoxError;
use std::fmt;

/// The error that a [`Learner`](crate::Learner) returns when memory runs out. The loop recognizes
/// it: with [`auto_find_batch_size`](crate::TrainingArguments::auto_find_batch_size) it tries again
/// with smaller batches.
#[derive(Debug, thiserror::Error)]
#[error("out of memory on {device}{}", Figures(self))]
pub struct OutOfMemory {
    /// The device, as the message names it: `cuda:0`, `the CPU`.
    pub device: String,
    /// The bytes that were asked for, if known.
    pub requested_bytes: Option<u64>,
    /// The free bytes of the device, if known.
    pub free_bytes: Option<u64>,
    /// All bytes of the device, if known.
    pub total_bytes: Option<u64>,
    /// The original error, if there is one.
    pub source: Option<BoxError>,
}

struct Figures<'a>(&'a OutOfMemory);

impl fmt::Display for Figures<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutOfMemory { requested_bytes, free_bytes, total_bytes, .. } = self.0;
        if let Some(requested) = requested_bytes {
            write!(formatter, ": {} were asked for", in_units(*requested))?;
        }
        let before = if requested_bytes.is_some() { "," } else { ":" };
        match (free_bytes, total_bytes) {
            (Some(free), Some(total)) => {
                write!(formatter, "{before} {} of {} are free", in_units(*free), in_units(*total))
            }
            (Some(free), None) => write!(formatter, "{before} {} are free", in_units(*free)),
            (None, Some(total)) => write!(formatter, "{before} there are {} in all", in_units(*total)),
            (None, None) => Ok(()),
        }
    }
}

/// The number of bytes in the units that torch prints.
fn in_units(bytes: u64) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    const MIB: f64 = (1u64 << 20) as f64;
    let number = bytes as f64;
    if number >= GIB {
        format!("{:.2} GiB", number / GIB)
    } else if number >= MIB {
        format!("{:.2} MiB", number / MIB)
    } else {
        format!("{bytes} bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_known_figures() {
        let error = |requested_bytes, free_bytes, total_bytes| {
            let device = "cuda:0".to_owned();
            OutOfMemory { device, requested_bytes, free_bytes, total_bytes, source: None }.to_string()
        };
        let (asked, free, total) = (Some(3 << 29), Some(300 << 20), Some(80 << 30));
        assert_eq!(
            error(asked, free, total),
            "out of memory on cuda:0: 1.50 GiB were asked for, 300.00 MiB of 80.00 GiB are free"
        );
        assert_eq!(error(Some(5), free, None), "out of memory on cuda:0: 5 bytes were asked for, 300.00 MiB are free");
        assert_eq!(error(None, None, total), "out of memory on cuda:0: there are 80.00 GiB in all");
        assert_eq!(error(None, None, None), "out of memory on cuda:0");
    }
}
