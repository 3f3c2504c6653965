//! A weight as the optimizer sees it: read and written in float32, whatever type it is stored in.

mod hidden_bits;
mod stochastic;

use crate::accelerated::{FusedKernels, StoredWeight, fused_kernels};
use crate::scratch::{Scratch, Slot};
use crate::{Error, Parameter, WeightUpdate};
use tch::{Kind, TchError, Tensor};

pub(crate) use self::stochastic::Noise;

/// A weight that kernels take.
pub(crate) struct KernelWeight<'a> {
    pub(crate) kernels: &'static dyn FusedKernels,
    /// The weight, flat.
    pub(crate) flat: &'a Tensor,
    pub(crate) stored: StoredWeight<'a>,
}

/// A flat weight, and what is stored beside it.
#[derive(Debug)]
pub(crate) struct MasterWeight {
    weight: Tensor,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// The weight is its own master.
    Float32,
    /// bfloat16, with the low half of the master's bits as int16.
    HiddenBits(Tensor),
    /// float16, with the whole master as float32.
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
        // Detached, so that writing in place needs no guard. The memory is the same.
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

    /// The weight as a kernel takes it, or `None` if no kernel does. `step` distinguishes steps for
    /// stochastic rounding.
    pub(crate) fn for_kernel(&self, step: i64) -> Option<KernelWeight<'_>> {
        let stored = match &self.storage {
            Storage::Float32 => StoredWeight::Float,
            Storage::HiddenBits(hidden) => StoredWeight::HiddenBits(hidden),
            Storage::Stochastic(noise) => StoredWeight::Stochastic { key: noise.key(step) },
            Storage::Nearest => StoredWeight::Nearest,
            Storage::Copy(_) => return None,
        };
        let kernels = fused_kernels(&[&self.weight])?;
        Some(KernelWeight { kernels, flat: &self.weight, stored })
    }

    /// Moves the hidden bits, if there are any, to memory of a stack.
    pub(crate) fn move_hidden(&mut self, mut stacked: Tensor) -> Result<(), TchError> {
        if let Storage::HiddenBits(hidden) = &mut self.storage {
            stacked.f_copy_(hidden)?;
            *hidden = stacked;
        }
        Ok(())
    }

    /// A float32 range of the master. The caller updates it in place and hands it to
    /// [`MasterWeight::finish`].
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

    /// Stores an updated range. `step` distinguishes steps for stochastic rounding.
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

    /// What must be saved beside the weight: the suffix of its name in the state, and the tensor.
    pub(crate) fn state(&self) -> Option<(&'static str, &Tensor)> {
        match &self.storage {
            Storage::HiddenBits(hidden) => Some(("hidden_bits", hidden)),
            Storage::Copy(master) => Some(("master", master)),
            Storage::Float32 | Storage::Stochastic(_) | Storage::Nearest => None,
        }
    }

    /// The seed of stochastic rounding, if it is used.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.noise().map(|noise| noise.seed)
    }

    /// The random bits of stochastic rounding, if it is used.
    pub(crate) fn noise(&self) -> Option<&Noise> {
        match &self.storage {
            Storage::Stochastic(noise) => Some(noise),
            _ => None,
        }
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        if let Storage::Stochastic(noise) = &mut self.storage {
            noise.seed = seed;
        }
    }
}
