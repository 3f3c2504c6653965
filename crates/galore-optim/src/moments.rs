//! The two moments of a parameter: float32 to read and to write, whatever type they are stored in.
//!
//! In bfloat16 they are rounded up or down at random, so that on average they are what they would
//! be: a second moment moves by a thousandth of itself in a step, less than half a unit of
//! bfloat16, and to nearest it would never move at all.

use crate::MomentDtype;
use crate::master::Noise;
use crate::scratch::{Scratch, Slot};
use tch::{Device, Kind, TchError, Tensor};

/// Moments, flat.
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
        // The seed is fixed: bits that depend on step, parameter and element are random enough, and
        // nothing needs to be saved.
        let noise = |moment: &str| Noise::new(0, &format!("{name}.{moment}"));
        Ok(Moments { first: zeros()?, second: zeros()?, dtype, noises: [noise("exp_avg"), noise("exp_avg_sq")] })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.dtype.kind()
    }

    /// Moves both to where they are to lie, as part of a stack.
    pub(crate) fn move_to(&mut self, mut first: Tensor, mut second: Tensor) -> Result<(), TchError> {
        first.f_copy_(&self.first)?;
        second.f_copy_(&self.second)?;
        (self.first, self.second) = (first, second);
        Ok(())
    }

    /// The key of the bits that a kernel rounds with in this step; one key serves both moments.
    pub(crate) fn key(&self, step: i64) -> u64 {
        self.noises[0].key(step)
    }

    /// Float32 ranges to update in place, then to hand to [`Self::finish`].
    pub(crate) fn begin(
        &self,
        (start, length): (i64, i64),
        scratch: &mut Scratch,
    ) -> Result<(Tensor, Tensor), TchError> {
        let mut wide = |moment: &Tensor, slot| scratch.widened(slot, &moment.f_narrow(0, start, length)?);
        Ok((wide(&self.first, Slot::FirstMoment)?, wide(&self.second, Slot::SecondMoment)?))
    }

    /// Stores updated ranges. `step` tells steps apart for stochastic rounding.
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
