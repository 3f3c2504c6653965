//! Work buffers, so that a step on the CPU allocates nothing large. They live as long as the
//! optimizer on the CPU, and as long as one step on a GPU.
//!
//! On the CPU a fresh buffer costs a page fault for each 4 KiB, about as much time as the
//! arithmetic in it.

use tch::{Device, Kind, TchError, Tensor};

/// Elements that a CPU thread works on at a time. The six float32 operands of a step then stay in
/// its share of the cache, and each tensor crosses the memory bus once. 50 M parameters take 0.31 s
/// on one thread, against 0.9 s without ranges. Shorter ranges pay more for starting operations
/// than they save (0.40 s at 16 K).
const CPU_ELEMENTS_PER_THREAD: i64 = 128 * 1024;
/// On a GPU the ranges only limit the size of the buffers.
const GPU_ELEMENTS: i64 = 16 * 1024 * 1024;

/// The use of a buffer. Two uses that overlap in time need two slots.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    /// A gradient in float32.
    Gradient,
    /// A gradient in the subspace, then the direction computed from it.
    LowRank,
    /// The intermediate product of a two-sided projection.
    HalfProjected,
    /// Weights in float32.
    Master,
    /// A first moment in float32.
    FirstMoment,
    /// A second moment in float32.
    SecondMoment,
    /// A basis in float32.
    Basis,
    /// First operand of elementwise work.
    WorkA,
    /// Second operand of elementwise work.
    WorkB,
}

const NUM_SLOTS: usize = Slot::WorkB as usize + 1;

/// The buffers of one device.
#[derive(Debug)]
pub(crate) struct Scratch {
    device: Device,
    slots: [Option<Tensor>; NUM_SLOTS],
}

impl Scratch {
    /// The buffers of `device`, created if there are none yet.
    pub(crate) fn of(all: &mut Vec<Scratch>, device: Device) -> &mut Scratch {
        let index = all.iter().position(|scratch| scratch.device == device).unwrap_or_else(|| {
            all.push(Scratch { device, slots: Default::default() });
            all.len() - 1
        });
        &mut all[index]
    }

    pub(crate) fn is_on_gpu(&self) -> bool {
        self.device.is_cuda()
    }

    /// The first `numel` elements of a slot as float32. Their content is undefined.
    pub(crate) fn floats(&mut self, slot: Slot, numel: i64) -> Result<Tensor, TchError> {
        let buffer = &mut self.slots[slot as usize];
        let buffer = match buffer {
            Some(buffer) if buffer.numel() as i64 >= numel => buffer,
            _ => {
                // The old buffer is freed first, so that there are never two.
                *buffer = None;
                buffer.insert(Tensor::f_empty([numel], (Kind::Float, self.device))?)
            }
        };
        buffer.f_narrow(0, 0, numel)
    }

    /// The tensor in float32: itself if it is float32, else a copy in a slot.
    pub(crate) fn widened(&mut self, slot: Slot, tensor: &Tensor) -> Result<Tensor, TchError> {
        if tensor.kind() == Kind::Float {
            return Ok(tensor.shallow_clone());
        }
        let mut floats = self.floats(slot, tensor.numel() as i64)?.f_view(&tensor.size()[..])?;
        floats.f_copy_(tensor)?;
        Ok(floats)
    }

    /// The first `numel` elements of a slot as float16. Their content is undefined.
    pub(crate) fn halves(&mut self, slot: Slot, numel: i64) -> Result<Tensor, TchError> {
        self.floats(slot, (numel + 1) / 2)?.f_view_dtype(Kind::Half)?.f_narrow(0, 0, numel)
    }

    /// The first `numel` elements of a slot as int32. Their content is undefined.
    pub(crate) fn ints(&mut self, slot: Slot, numel: i64) -> Result<Tensor, TchError> {
        self.floats(slot, numel)?.f_view_dtype(Kind::Int)
    }

    /// The number of elements to work on at a time.
    fn chunk_elements(&self) -> i64 {
        match self.device {
            Device::Cpu => CPU_ELEMENTS_PER_THREAD * i64::from(tch::get_num_threads()).max(1),
            _ => GPU_ELEMENTS,
        }
    }

    /// Consecutive `(start, length)` that cover `numel` elements.
    pub(crate) fn chunks(&self, numel: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        let chunk = self.chunk_elements();
        (0..numel).step_by(chunk as usize).map(move |start| (start, chunk.min(numel - start)))
    }
}
