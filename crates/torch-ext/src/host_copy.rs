use crate::Error;
use tch::{Device, Tensor};

/// Elements brought from a device at a time.
const PIECE_ELEMENTS: i64 = 4 << 20;

/// The bytes of tensors, end to end, in host memory of their own.
///
/// The memory comes from the system in large pages where it has them. A copy of gigabytes that is made now and then spends most of its time
/// on getting pages: with ordinary ones it took three times as long.
#[derive(Debug)]
pub struct HostCopy(Option<memmap2::MmapMut>);

impl HostCopy {
    /// Copies the tensors, each in the order of its elements.
    ///
    /// # Errors
    /// [`Error::Memory`] when memory is lacking, [`Error::Torch`] when a tensor cannot be read.
    pub fn of(tensors: &[Tensor]) -> Result<Self, Error> {
        let length = tensors.iter().map(num_bytes).sum();
        if length == 0 {
            return Ok(Self(None)); // mmap refuses an empty range
        }
        let mut memory =
            memmap2::MmapMut::map_anon(length).map_err(|source| Error::Memory { bytes: length, source })?;
        // A system that has none gives ordinary pages.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        let mut rest = &mut memory[..];
        for tensor in tensors {
            let (bytes, after) = rest.split_at_mut(num_bytes(tensor));
            copy(tensor, bytes).map_err(|error| Error::Torch { operation: "copy", message: error.to_string() })?;
            rest = after;
        }
        Ok(Self(Some(memory)))
    }
}

impl std::ops::Deref for HostCopy {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}

fn num_bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

fn copy(tensor: &Tensor, bytes: &mut [u8]) -> Result<(), tch::TchError> {
    let flat = tensor.f_contiguous()?.f_view([-1])?;
    if flat.device() == Device::Cpu {
        return flat.f_copy_data_u8(bytes, flat.numel());
    }
    let length = flat.size1()?;
    let mut rest = bytes;
    for start in (0..length).step_by(PIECE_ELEMENTS as usize) {
        let piece = flat.f_narrow(0, start, PIECE_ELEMENTS.min(length - start))?;
        let (bytes, after) = rest.split_at_mut(num_bytes(&piece));
        piece.f_copy_data_u8(bytes, piece.numel())?;
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn tensors_of_any_type_and_layout_lie_end_to_end() {
        let tensors = [
            Tensor::from_slice(&[1i64]).view([0i64; 0]),
            Tensor::from_slice(&[0.5f32, -2.0, 3.0, 4.0]).view([2, 2]).tr(),
            Tensor::zeros([0], (Kind::Float, Device::Cpu)),
            Tensor::from_slice(&[1.0f32, -1.0]).to_kind(Kind::BFloat16),
        ];
        let copy = HostCopy::of(&tensors).unwrap();
        let mut expected = 1i64.to_le_bytes().to_vec();
        expected.extend([0.5f32, 3.0, -2.0, 4.0].into_iter().flat_map(f32::to_le_bytes));
        expected.extend([0x80, 0x3f, 0x80, 0xbf]);
        assert_eq!(&copy[..], expected);
        let _ = tensors[1].shallow_clone().fill_(7.0);
        assert_eq!(&copy[..], expected, "it is a copy");
        assert!(HostCopy::of(&[]).unwrap().is_empty());
    }
}
