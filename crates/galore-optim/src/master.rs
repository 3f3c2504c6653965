//! A weight as the optimizer sees it: float32 to read and to write, whatever type it is stored in.

mod hidden_bits;
mod stochastic;

use crate::scratch::{Scratch, Slot};
use crate::{Error, Parameter, WeightUpdate, fused};
use tch::{Kind, TchError, Tensor};

pub(crate) use self::stochastic::Noise;

/// A weight, flat, and what is kept beside it.
#[derive(Debug)]
pub(crate) struct MasterWeight {
    weight: Tensor,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// The weight is its own master.
    Float32,
    /// bfloat16 with the other half of the master's bits, int16.
    HiddenBits(Tensor),
    /// float16 with the whole master, float32.
    Copy(Tensor),
    Stochastic(Noise),
    Nearest,
}

impl MasterWeight {
    pub(crate) fn new(parameter: &Parameter, update: WeightUpdate) -> Result<Self, Error> {
        let Parameter { name, weight, .. } = parameter;
        if !weight.is_contiguous() {
            return Err(Error::NotContiguous { name: name.clone(), shape: weight.size() });
        }
        // Detached, so that writing in place needs no guard; same memory.
        let weight = weight.f_detach()?.f_view([-1])?;
        let unsupported = |found| Err(Error::UnsupportedKind { name: name.clone(), what: "weight", found });
        let storage = match (weight.f_kind()?, update) {
            (Kind::Float, _) => Storage::Float32,
            (Kind::BFloat16, WeightUpdate::Exact) => {
                Storage::HiddenBits(Tensor::f_zeros(weight.size(), (Kind::Int16, weight.device()))?)
            }
            (Kind::Half, WeightUpdate::Exact) => Storage::Copy(weight.f_to_kind(Kind::Float)?),
            (Kind::BFloat16, WeightUpdate::Stochastic { seed }) => Storage::Stochastic(Noise::new(seed, name)),
            (Kind::BFloat16 | Kind::Half, WeightUpdate::Nearest) => Storage::Nearest,
            (found, _) => return unsupported(found),
        };
        Ok(MasterWeight { weight, storage })
    }

    pub(crate) fn numel(&self) -> i64 {
        self.weight.numel() as i64
    }

    /// The weight, flat, and how a kernel finds it kept; `None` for a type that kernels do not
    /// know. `step` tells steps apart for stochastic rounding.
    pub(crate) fn for_kernel(&self, step: i64) -> Option<(&Tensor, fused::Storage<'_>)> {
        let storage = match &self.storage {
            Storage::Float32 => fused::Storage::Float,
            Storage::HiddenBits(hidden) => fused::Storage::HiddenBits(hidden),
            Storage::Stochastic(noise) => fused::Storage::Stochastic { key: noise.key(step) },
            Storage::Nearest => fused::Storage::Nearest,
            Storage::Copy(_) => return None,
        };
        fused::takes(&[&self.weight]).then_some((&self.weight, storage))
    }

    /// Moves the hidden bits, if that is how the weight is kept, to `room`.
    pub(crate) fn move_hidden(&mut self, mut room: Tensor) -> Result<(), TchError> {
        if let Storage::HiddenBits(hidden) = &mut self.storage {
            room.f_copy_(hidden)?;
            *hidden = room;
        }
        Ok(())
    }

    /// A float32 range to update in place, then to hand to [`MasterWeight::finish`].
    pub(crate) fn begin(&self, (start, length): (i64, i64), scratch: &mut Scratch) -> Result<Tensor, TchError> {
        let range = match &self.storage {
            Storage::Float32 => return self.weight.f_narrow(0, start, length),
            Storage::Copy(master) => return master.f_narrow(0, start, length),
            _ => self.weight.f_narrow(0, start, length)?,
        };
        let mut master = scratch.floats(Slot::Master, length)?;
        match &self.storage {
            Storage::HiddenBits(hidden) => {
                let hidden = hidden.f_narrow(0, start, length)?;
                for (start, length) in scratch.chunks(length) {
                    let mut out = master.f_narrow(0, start, length)?;
                    hidden_bits::join(
                        &range.f_narrow(0, start, length)?,
                        &hidden.f_narrow(0, start, length)?,
                        &mut out,
                    )?;
                }
            }
            _ => master.f_copy_(&range)?,
        }
        Ok(master)
    }

    /// Stores an updated range. `step` tells steps apart for stochastic rounding.
    pub(crate) fn finish(
        &self,
        (start, length): (i64, i64),
        master: &Tensor,
        step: i64,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        if matches!(self.storage, Storage::Float32) {
            return Ok(());
        }
        for (offset, length) in scratch.chunks(length) {
            let master = master.f_narrow(0, offset, length)?;
            let mut weight = self.weight.f_narrow(0, start + offset, length)?;
            match &self.storage {
                Storage::HiddenBits(hidden) => {
                    let mut hidden = hidden.f_narrow(0, start + offset, length)?;
                    let mut work = scratch.ints(Slot::WorkA, length)?;
                    hidden_bits::split(&master, &mut weight, &mut hidden, &mut work)?;
                }
                Storage::Stochastic(noise) => {
                    let mut work = scratch.ints(Slot::WorkA, length)?;
                    let mut shifted = scratch.ints(Slot::WorkB, length)?;
                    noise.round(&master, &mut weight, (step, start + offset), [&mut work, &mut shifted])?;
                }
                _ => weight.f_copy_(&master)?,
            }
        }
        Ok(())
    }

    /// What must be saved beside the weight: a suffix of its name, and the tensor.
    pub(crate) fn state(&self) -> Option<(&'static str, &Tensor)> {
        match &self.storage {
            Storage::HiddenBits(hidden) => Some(("hidden_bits", hidden)),
            Storage::Copy(master) => Some(("master", master)),
            Storage::Float32 | Storage::Stochastic(_) | Storage::Nearest => None,
        }
    }

    /// The seed of stochastic rounding, if it is used.
    pub(crate) fn seed(&self) -> Option<u64> {
        match &self.storage {
            Storage::Stochastic(noise) => Some(noise.seed),
            _ => None,
        }
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        if let Storage::Stochastic(noise) = &mut self.storage {
            noise.seed = seed;
        }
    }
}
