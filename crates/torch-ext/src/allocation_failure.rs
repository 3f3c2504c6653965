//! The figures in libtorch's message when memory runs out. libtorch's C interface reports an error
//! as text only.

/// An allocation that failed, as libtorch's message describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocationFailure {
    /// The memory that ran out.
    pub location: MemoryLocation,
    /// Bytes asked for, if the message says.
    pub requested_bytes: Option<u64>,
    /// Bytes the device has in all, if the message says.
    pub total_bytes: Option<u64>,
    /// Bytes that are free on the device, if the message says.
    pub free_bytes: Option<u64>,
}

/// A memory that can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLocation {
    /// Host memory.
    Host,
    /// The memory of a GPU; its index, if the message says.
    Cuda(Option<usize>),
}

/// Parts of the messages of allocators and libraries in torch 2.11, by the memory they are about.
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

impl AllocationFailure {
    /// Reads libtorch's message. Returns `None` if the message is about something else.
    pub fn recognise(message: &str) -> Option<Self> {
        let is_any_of = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        let location = if is_any_of(&HOST) {
            MemoryLocation::Host
        } else if is_any_of(&CUDA) {
            let index = after(message, "GPU ").or_else(|| after(message, "Allocation on device "));
            let index = index.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
            MemoryLocation::Cuda(index.and_then(|index| index.parse().ok()))
        } else {
            return None;
        };
        Some(Self {
            location,
            requested_bytes: bytes_after(message, &["ried to allocate ", "Requested               : "]),
            total_bytes: bytes_after(message, &["total capacity of ", "Device limit            : "]),
            free_bytes: bytes_after(message, &["of which ", "Free (according to CUDA): "]),
        })
    }
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// The size that follows one of the marks, such as `2.50 GiB`, `512.00 KiB.`, `4096 bytes`.
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
        let expected = AllocationFailure {
            location: MemoryLocation::Cuda(Some(1)),
            requested_bytes: Some(5 << 29),
            total_bytes: Some(317 << 28),
            free_bytes: Some(512 << 20),
        };
        assert_eq!(AllocationFailure::recognise(message), Some(expected));
    }

    #[test]
    fn figures_of_the_asynchronous_allocator_are_read() {
        let message = "Allocation on device 2 would exceed allowed memory. (out of memory)\n\
                       Currently allocated     : 78.00 GiB\nRequested               : 2.50 GiB\nDevice limit            : 79.25 GiB\n\
                       Free (according to CUDA): 512.00 MiB\nPyTorch limit (set by user-supplied memory fraction)\n                        : \
                       17179869184.00 GiB\nException raised from throwOom at a.cpp:1";
        let expected = AllocationFailure {
            location: MemoryLocation::Cuda(Some(2)),
            requested_bytes: Some(5 << 29),
            total_bytes: Some(317 << 28),
            free_bytes: Some(512 << 20),
        };
        assert_eq!(AllocationFailure::recognise(message), Some(expected));
    }

    #[test]
    fn messages_without_figures_are_recognised_too() {
        let nothing_known =
            |location| Some(AllocationFailure { location, requested_bytes: None, total_bytes: None, free_bytes: None });
        for (message, location) in [
            ("CUDA error: out of memory\nCUDA kernel errors might be reported later", MemoryLocation::Cuda(None)),
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", MemoryLocation::Cuda(None)),
            ("CUDA out of memory. Tried to allocate more than 1EB memory.", MemoryLocation::Cuda(None)),
            ("CUDA out of memory. Tried to allocate -1 GiB", MemoryLocation::Cuda(None)),
            ("kernel adam: CUDA_ERROR_OUT_OF_MEMORY", MemoryLocation::Cuda(None)),
            ("std::bad_alloc", MemoryLocation::Host),
        ] {
            assert_eq!(AllocationFailure::recognise(message), nothing_known(location), "{message}");
        }
        for other in ["", "CUDA error: an illegal memory access was encountered", "you tried to allocate 5 bytes"] {
            assert_eq!(AllocationFailure::recognise(other), None, "{other}");
        }
    }

    /// The allocation is larger than any address space.
    #[test]
    fn the_message_of_the_cpu_is_read() {
        let error = Tensor::f_zeros([1i64 << 46], (Kind::Float, Device::Cpu)).unwrap_err();
        let expected = AllocationFailure {
            location: MemoryLocation::Host,
            requested_bytes: Some(1 << 48),
            total_bytes: None,
            free_bytes: None,
        };
        assert_eq!(AllocationFailure::recognise(&error.to_string()), Some(expected), "{error}");
    }
}
