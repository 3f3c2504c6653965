//! What libtorch says when memory ran out, taken apart. Through its C interface an error is text
//! and nothing else.

/// Memory that could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Whose memory it is.
    pub place: Place,
    /// Bytes asked for, where the message tells.
    pub requested_bytes: Option<u64>,
    /// Bytes the device has in all, where the message tells.
    pub total_bytes: Option<u64>,
    /// Bytes of the device that nobody has, where the message tells.
    pub free_bytes: Option<u64>,
}

/// Whose memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The host's.
    Host,
    /// A GPU's; its index, where the message tells.
    Cuda(Option<usize>),
}

/// Parts of the messages of allocators and libraries, by the place they speak of; those that the
/// libraries of torch 2.11 hold.
const HOST: [&str; 2] = ["DefaultCPUAllocator: can't allocate memory", "std::bad_alloc"];
const CUDA: [&str; 6] = [
    "CUDA out of memory",
    // With `PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync`.
    "would exceed allowed memory. (out of memory)",
    "CUDA error: out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
];

impl OutOfMemory {
    /// Reads libtorch's message; `None` if it is about something else.
    pub fn recognise(message: &str) -> Option<Self> {
        let is_any_of = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        let place = if is_any_of(&HOST) {
            Place::Host
        } else if is_any_of(&CUDA) {
            let index = after(message, "GPU ").or_else(|| after(message, "Allocation on device "));
            let index = index.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
            Place::Cuda(index.and_then(|index| index.parse().ok()))
        } else {
            return None;
        };
        Some(Self {
            place,
            requested_bytes: bytes_after(message, &["ried to allocate ", "Requested               : "]),
            total_bytes: bytes_after(message, &["total capacity of ", "Device limit            : "]),
            free_bytes: bytes_after(message, &["of which ", "Free (according to CUDA): "]),
        })
    }
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// The size that follows one of the marks: `2.50 GiB`, `512.00 KiB.`, `4096 bytes`.
fn bytes_after(text: &str, marks: &[&str]) -> Option<u64> {
    let mut words = marks.iter().find_map(|mark| after(text, mark))?.split_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    let factor: u64 = match words.next()?.trim_end_matches(['.', ',']) {
        "bytes" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    // The conversion saturates.
    (number.is_finite() && number >= 0.0).then_some((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn figures_of_the_caching_allocator_are_read() {
        let message = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of 79.25 GiB of which 512.00 MiB \
                       is free. Process 4242 has 78.73 GiB memory in use. Of the allocated memory 70.00 GiB is allocated by PyTorch, \
                       and 1.00 GiB is reserved by PyTorch but unallocated.\nException raised from malloc at a.cpp:1";
        let expected = OutOfMemory {
            place: Place::Cuda(Some(1)),
            requested_bytes: Some(5 << 29),
            total_bytes: Some(317 << 28),
            free_bytes: Some(512 << 20),
        };
        assert_eq!(OutOfMemory::recognise(message), Some(expected));
    }

    #[test]
    fn figures_of_the_asynchronous_allocator_are_read() {
        let message = "Allocation on device 2 would exceed allowed memory. (out of memory)\n\
                       Currently allocated     : 78.00 GiB\nRequested               : 2.50 GiB\nDevice limit            : 79.25 GiB\n\
                       Free (according to CUDA): 512.00 MiB\nPyTorch limit (set by user-supplied memory fraction)\n                        : \
                       17179869184.00 GiB\nException raised from throwOom at a.cpp:1";
        let expected = OutOfMemory {
            place: Place::Cuda(Some(2)),
            requested_bytes: Some(5 << 29),
            total_bytes: Some(317 << 28),
            free_bytes: Some(512 << 20),
        };
        assert_eq!(OutOfMemory::recognise(message), Some(expected));
    }

    #[test]
    fn messages_without_figures_are_recognised_too() {
        let nothing_known =
            |place| Some(OutOfMemory { place, requested_bytes: None, total_bytes: None, free_bytes: None });
        for (message, place) in [
            ("CUDA error: out of memory\nCUDA kernel errors might be reported later", Place::Cuda(None)),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Place::Cuda(None)),
            ("CUDA out of memory. Tried to allocate more than 1EB memory.", Place::Cuda(None)),
            ("CUDA out of memory. Tried to allocate -1 GiB", Place::Cuda(None)),
            ("kernel adam: CUDA_ERROR_OUT_OF_MEMORY", Place::Cuda(None)),
            ("std::bad_alloc", Place::Host),
        ] {
            assert_eq!(OutOfMemory::recognise(message), nothing_known(place), "{message}");
        }
        for other in ["", "CUDA error: an illegal memory access was encountered", "you tried to allocate 5 bytes"] {
            assert_eq!(OutOfMemory::recognise(other), None, "{other}");
        }
    }

    /// The real thing: more than any address space.
    #[test]
    fn the_message_of_the_cpu_is_read() {
        let error = Tensor::f_zeros([1i64 << 46], (Kind::Float, Device::Cpu)).unwrap_err();
        let expected =
            OutOfMemory { place: Place::Host, requested_bytes: Some(1 << 48), total_bytes: None, free_bytes: None };
        assert_eq!(OutOfMemory::recognise(&error.to_string()), Some(expected), "{error}");
    }
}
