use crate::Error;
use memmap2::MmapMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, TchError, Tensor};

/// Host memory for copies of tensors that are made again and again, as those of checkpoints are.
///
/// A copy of gigabytes spends most of its time on getting pages from the system. So a [`HostCopy`]
/// that is dropped leaves its memory here, and the next one of the same size takes it: no more is
/// held than was in use at a time, and nothing that the next copy could not use. The system may
/// have idle memory back when it runs short (`MADV_FREE`, on Linux). All of it goes with the last
/// clone and the last copy.
#[derive(Clone, Debug, Default)]
pub struct HostMemory(Arc<Mutex<Vec<MmapMut>>>);

impl HostMemory {
    /// Copies the tensors, each in the order of its elements, end to end.
    ///
    /// # Errors
    /// [`Error::Memory`] when memory is lacking, [`Error::Torch`] when a tensor cannot be read.
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

    /// Bytes that no copy uses at the moment.
    pub fn idle_bytes(&self) -> usize {
        self.idle().iter().map(|memory| memory.len()).sum()
    }

    fn take(&self, length: usize) -> Result<HostCopy, Error> {
        let copy = |memory| HostCopy { memory, home: self.clone() };
        if length == 0 {
            return Ok(copy(None)); // mmap refuses an empty range
        }
        let mut idle = self.idle();
        if let Some(index) = idle.iter().position(|memory| memory.len() == length) {
            return Ok(copy(Some(idle.swap_remove(index))));
        }
        // Sizes have changed: what is left of the earlier ones would be kept beside the new ones.
        idle.clear();
        let memory = MmapMut::map_anon(length).map_err(|source| Error::Memory { bytes: length, source })?;
        // In large pages, of which there are fewer to get. A system that has none gives ordinary
        // ones.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(copy(Some(memory)))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<MmapMut>> {
        // Whoever panicked with it left a list that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of tensors at one moment, end to end, in host memory of [`HostMemory`].
#[derive(Debug)]
pub struct HostCopy {
    memory: Option<MmapMut>,
    home: HostMemory,
}

impl Drop for HostCopy {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        // SAFETY: the range is all of the mapping, and nobody reads what it held: the next copy
        // writes over it.
        #[cfg(target_os = "linux")]
        let _ = unsafe { memory.unchecked_advise(memmap2::UncheckedAdvice::Free) };
        self.home.idle().push(memory);
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

/// By libtorch, which shares the work among its threads and copies from a device without a stop in
/// between.
fn copy_to(tensor: &Tensor, bytes: &mut [u8]) -> Result<(), TchError> {
    // As bytes, so that no type asks for an alignment.
    let from = tensor.f_contiguous()?.f_view([-1])?.f_view_dtype(Kind::Uint8)?;
    // SAFETY: the tensor lives no longer than `bytes`, and has as many.
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
        let memory = HostMemory::default();
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
        let memory = HostMemory::default();
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
        let memory = HostMemory::default();
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
