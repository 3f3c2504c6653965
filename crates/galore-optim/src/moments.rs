//! The two moments of a parameter: read and written in float32, whatever type they are stored in.
//!
//! bfloat16 moments are rounded stochastically, so that they are right on average. A second moment
//! changes by a thousandth of itself in a step, which is less than half a unit in bfloat16's last
//! place: rounded to nearest, it would never change.

use crate::MomentDtype;
use crate::accelerated::KernelMoments;
use crate::master::Noise;
use crate::scratch::{Scratch, Slot};
use tch::{Device, Kind, TchError, Tensor};

/// The moments of one parameter, flat.
#[derive(Debug)]
pub(crate) struct Moments {
    pub(crate) first: Tensor,
    pub(crate) second: Tensor,
    dtype: MomentDtype,
    noises: [Noise; 2],
}

impl Moments {
    pub(crate) fn zeros(name: &str, numel: i64, dtype: MomentDtype, device: Device) -> Result<Self, TchError> {
        let zeros = || Tensor::f_zeros([numel], (dtype.kind(), device));
        // The seed is fixed, so nothing needs to be saved. The bits still depend on step, parameter
        // and element, which is random enough.
        let noise = |moment: &str| Noise::new(0, &format!("{name}.{moment}"));
        Ok(Moments { first: zeros()?, second: zeros()?, dtype, noises: [noise("exp_avg"), noise("exp_avg_sq")] })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.dtype.kind()
    }

    /// Moves both moments to memory of a stack.
    pub(crate) fn move_to(&mut self, mut first: Tensor, mut second: Tensor) -> Result<(), TchError> {
        first.f_copy_(&self.first)?;
        second.f_copy_(&self.second)?;
        (self.first, self.second) = (first, second);
        Ok(())
    }

    /// The key of the random bits that a kernel rounds with in this step. Both moments share it.
    pub(crate) fn key(&self, step: i64) -> u64 {
        self.noises[0].key(step)
    }

    /// The moments as a kernel takes them.
    pub(crate) fn for_kernel(&mut self, step: i64) -> KernelMoments<'_> {
        let key = self.key(step);
        KernelMoments { first: &mut self.first, second: &mut self.second, key }
    }

    /// Float32 ranges of both. The caller updates them in place and hands them to
    /// [`Self::finish`].
    pub(crate) fn begin(
        &self,
        (start, length): (i64, i64),
        scratch: &mut Scratch,
    ) -> Result<(Tensor, Tensor), TchError> {
        let mut wide = |moment: &Tensor, slot| scratch.widened(slot, &moment.f_narrow(0, start, length)?);
        Ok((wide(&self.first, Slot::FirstMoment)?, wide(&self.second, Slot::SecondMoment)?))
    }

    /// Stores updated ranges. `step` distinguishes steps for stochastic rounding.
    pub(crate) fn finish(
        &self,
        (start, length): (i64, i64),
        updated: [&Tensor; 2],
        step: i64,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        if self.dtype == MomentDtype::Float32 {
            return Ok(());
        }
        for ((moment, updated), noise) in [&self.first, &self.second].into_iter().zip(updated).zip(&self.noises) {
            let mut hash = scratch.ints(Slot::WorkA, length)?;
            let mut work = scratch.ints(Slot::WorkB, length)?;
            let mut range = moment.f_narrow(0, start, length)?;
            noise.round(updated, &mut range, (step, start), [&mut hash, &mut work])?;
        }
        Ok(())
    }
}
