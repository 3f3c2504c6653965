use crate::Error;
use memmap2::MmapMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, TchError, Tensor};

/// A pool of host memory for copies of tensors that are made repeatedly, such as checkpoints.
///
/// A copy of gigabytes spends most of its time waiting for pages from the system. A dropped
/// [`HostCopy`] therefore returns its memory to the pool, and the next copy of the same size takes
/// it. The pool never holds more than was in use at one time. When a copy finds no buffer of its
/// size, the pool frees all idle buffers first. On Linux the system may reclaim idle memory when it
/// runs short (`MADV_FREE`). Clones share one pool, which lives until the last clone and the last
/// copy are dropped.
#[derive(Clone, Debug, Default)]
pub struct HostBufferPool(Arc<Mutex<Vec<MmapMut>>>);

impl HostBufferPool {
    /// Copies the tensors one after the other, each in the order of its elements.
    ///
    /// # Errors
    /// [`Error::Memory`] when the system refuses the memory, [`Error::Torch`] when a tensor cannot
    /// be read.
    pub fn copy(&self, tensors: &[Tensor]) -> Result<HostCopy, Error> {
        let mut copy = self.take(tensors.iter().map(num_bytes).sum())?;
        let mut rest = copy.memory.as_deref_mut().unwrap_or(&mut []);
        for tensor in tensors {
            let (bytes, after) = rest.split_at_mut(num_bytes(tensor));
            copy_to(tensor, bytes).map_err(|error| Error::Torch { operation: "copy", message: error.to_string() })?;
            rest = after;
        }
        Ok(copy)
    }

    /// Returns the bytes that no copy uses now.
    pub fn idle_bytes(&self) -> usize {
        self.idle().iter().map(|memory| memory.len()).sum()
    }

    fn take(&self, length: usize) -> Result<HostCopy, Error> {
        let copy = |memory| HostCopy { memory, pool: self.clone() };
        if length == 0 {
            return Ok(copy(None)); // mmap refuses an empty range
        }
        let mut idle = self.idle();
        if let Some(index) = idle.iter().position(|memory| memory.len() == length) {
            return Ok(copy(Some(idle.swap_remove(index))));
        }
        // The sizes have changed. Buffers of the earlier sizes would stay beside the new ones.
        idle.clear();
        let memory = MmapMut::map_anon(length).map_err(|source| Error::Memory { bytes: length, source })?;
        // Large pages, because fewer of them are needed. A system without them gives ordinary ones.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(copy(Some(memory)))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MmapMut>> {
        // A thread that panicked with the lock held left a complete list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of tensors at one moment, one after the other, in a buffer of a [`HostBufferPool`].
#[derive(Debug)]
pub struct HostCopy {
    memory: Option<MmapMut>,
    pool: HostBufferPool,
}

impl Drop for HostCopy {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        // SAFETY: the range is the whole mapping, and its content is not read again: the next copy
        // overwrites it.
        #[cfg(target_os = "linux")]
        let _ = unsafe { memory.unchecked_advise(memmap2::UncheckedAdvice::Free) };
        self.pool.idle().push(memory);
    }
}

impl std::ops::Deref for HostCopy {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or(&[])
    }
}

fn num_bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// libtorch copies with several threads, and directly from a device.
fn copy_to(tensor: &Tensor, bytes: &mut [u8]) -> Result<(), TchError> {
    // As bytes, because other types need an alignment.
    let from = tensor.f_contiguous()?.f_view([-1])?.f_view_dtype(Kind::Uint8)?;
    // SAFETY: the tensor does not outlive `bytes` and has the same length.
    let mut to =
        unsafe { Tensor::f_from_blob(bytes.as_mut_ptr(), &[bytes.len() as i64], &[1], Kind::Uint8, Device::Cpu)? };
    to.f_copy_(&from).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_any_type_and_layout_lie_end_to_end() {
        let tensors = [
            Tensor::from_slice(&[1i64]).view([0i64; 0]),
            Tensor::from_slice(&[0.5f32, -2.0, 3.0, 4.0]).view([2, 2]).tr(),
            Tensor::zeros([0], (Kind::Float, Device::Cpu)),
            Tensor::from_slice(&[7u8]),
            Tensor::from_slice(&[1.0f32, -1.0]).to_kind(Kind::BFloat16),
        ];
        let memory = HostBufferPool::default();
        let copy = memory.copy(&tensors).unwrap();
        let mut expected = 1i64.to_le_bytes().to_vec();
        expected.extend([0.5f32, 3.0, -2.0, 4.0].into_iter().flat_map(f32::to_le_bytes));
        expected.extend([7, 0x80, 0x3f, 0x80, 0xbf]);
        assert_eq!(&copy[..], expected);
        let _ = tensors[1].shallow_clone().fill_(7.0);
        assert_eq!(&copy[..], expected, "it is a copy");
        assert!(memory.copy(&[]).unwrap().is_empty());
    }

    fn number(value: f32, length: i64) -> Tensor {
        Tensor::full([length], f64::from(value), (Kind::Float, Device::Cpu))
    }

    fn is_all(copy: &HostCopy, value: f32) -> bool {
        copy.chunks(4).all(|bytes| bytes == value.to_le_bytes())
    }

    #[test]
    fn memory_is_used_again_and_by_one_copy_at_a_time() {
        let memory = HostBufferPool::default();
        let long = 3 << 20; // several large pages
        let first = memory.copy(&[number(1.0, long)]).unwrap();
        assert_eq!(memory.idle_bytes(), 0);
        let second = memory.copy(&[number(2.0, long)]).unwrap();
        assert!(is_all(&first, 1.0) && is_all(&second, 2.0));
        let place = first.as_ptr();
        drop(first);
        assert_eq!(memory.idle_bytes(), 4 * long as usize);
        let third = memory.copy(&[number(3.0, long)]).unwrap();
        assert_eq!((third.as_ptr(), memory.idle_bytes()), (place, 0));
        assert!(is_all(&second, 2.0) && is_all(&third, 3.0));
    }

    #[test]
    fn no_more_is_kept_than_the_next_copies_can_use() {
        let memory = HostBufferPool::default();
        for lengths in [[1000, 10], [1000, 10], [2000, 20]] {
            let copies = lengths.map(|length| memory.copy(&[number(1.0, length)]).unwrap());
            assert_eq!(memory.idle_bytes(), 0, "what was left of {lengths:?}");
            drop(copies);
            assert_eq!(memory.idle_bytes(), 4 * lengths.iter().sum::<i64>() as usize);
        }
        let clone = memory.clone();
        drop(memory);
        assert_eq!(clone.idle_bytes(), 8080);
    }
}
