//! The two moments of a parameter: read and written in float32, whatever they are stored as.
//!
//! bfloat16 moments are rounded stochastically, so that they are right on average. A second moment
//! changes by a thousandth of itself in a step, which is less than half a unit in bfloat16's last
//! place: rounded to nearest, it would never change. The 8-bit ways are codecs
//! ([`codec`](crate::codec)).

use crate::MomentDtype;
use crate::accelerated::KernelMoments;
use crate::codec::{Codec, Coded, Moment, codec};
use crate::master::Noise;
use crate::scratch::{Scratch, Slot};
use tch::{Device, Kind, TchError, Tensor};

/// The moments of one parameter, flat.
#[derive(Debug)]
pub(crate) struct Moments {
    numel: i64,
    storage: Storage,
}

#[derive(Debug)]
enum Storage {
    /// For updates that have no moments.
    Absent(Device),
    /// Tensors of one type.
    Plain { moments: [Tensor; 2], noises: [Noise; 2] },
    /// Codes of one byte and their scales.
    Coded { codec: Box<dyn Codec>, moments: [Coded; 2] },
}

/// Suffixes of the moments' names in the state.
const NAMES: [&str; 2] = ["exp_avg", "exp_avg_sq"];

impl Moments {
    pub(crate) fn zeros(name: &str, numel: i64, dtype: MomentDtype, device: Device) -> Result<Self, TchError> {
        let storage = match codec(dtype, numel, device)? {
            Some(codec) => {
                let zeros = |moment| Coded::zeros(codec.as_ref(), moment, numel, device);
                let moments = [zeros(Moment::First)?, zeros(Moment::Second)?];
                Storage::Coded { codec, moments }
            }
            None => {
                let zeros = || Tensor::f_zeros([numel], (dtype.kind(), device));
                // The seed is fixed, so nothing needs to be saved. The bits still depend on step,
                // parameter and element, which is random enough.
                let noises = NAMES.map(|moment| Noise::new(0, &format!("{name}.{moment}")));
                Storage::Plain { moments: [zeros()?, zeros()?], noises }
            }
        };
        Ok(Moments { numel, storage })
    }

    /// No moments.
    pub(crate) fn none(device: Device) -> Self {
        Moments { numel: 0, storage: Storage::Absent(device) }
    }

    pub(crate) fn numel(&self) -> i64 {
        self.numel
    }

    pub(crate) fn device(&self) -> Device {
        match &self.storage {
            Storage::Absent(device) => *device,
            Storage::Plain { moments, .. } => moments[0].device(),
            Storage::Coded { moments, .. } => moments[0].codes.device(),
        }
    }

    /// The type of moments that kernels and stacks take, or `None` for codes.
    pub(crate) fn plain_kind(&self) -> Option<Kind> {
        match &self.storage {
            Storage::Plain { moments, .. } => Some(moments[0].kind()),
            Storage::Absent(_) | Storage::Coded { .. } => None,
        }
    }

    /// Moves both moments to memory of a stack. Codes stay where they are.
    pub(crate) fn move_to(&mut self, stacked: [Tensor; 2]) -> Result<(), TchError> {
        if let Storage::Plain { moments, .. } = &mut self.storage {
            for (moment, mut place) in moments.iter_mut().zip(stacked) {
                place.f_copy_(moment)?;
                *moment = place;
            }
        }
        Ok(())
    }

    /// The key of the random bits that a kernel rounds with in this step. Both moments share it.
    pub(crate) fn key(&self, step: i64) -> u64 {
        match &self.storage {
            Storage::Plain { noises, .. } => noises[0].key(step),
            Storage::Absent(_) | Storage::Coded { .. } => 0,
        }
    }

    /// The moments as a kernel takes them, or `None` for codes.
    pub(crate) fn for_kernel(&mut self, step: i64) -> Option<KernelMoments<'_>> {
        let key = self.key(step);
        match &mut self.storage {
            Storage::Plain { moments: [first, second], .. } => Some(KernelMoments { first, second, key }),
            Storage::Absent(_) | Storage::Coded { .. } => None,
        }
    }

    /// Float32 ranges of both. The caller updates them in place and hands them to
    /// [`Self::finish`]. A range starts at a multiple of 256.
    pub(crate) fn begin(&self, range: (i64, i64), scratch: &mut Scratch) -> Result<(Tensor, Tensor), TchError> {
        let slots = [Slot::FirstMoment, Slot::SecondMoment];
        match &self.storage {
            Storage::Absent(_) => Err(TchError::Kind("this update has no moments".to_owned())),
            Storage::Plain { moments, .. } => {
                let mut wide =
                    |index: usize| scratch.widened(slots[index], &moments[index].f_narrow(0, range.0, range.1)?);
                Ok((wide(0)?, wide(1)?))
            }
            Storage::Coded { codec, moments } => {
                let mut wide = |index: usize| {
                    let mut out = scratch.floats(slots[index], range.1)?;
                    moments[index].read(codec.as_ref(), range, &mut out)?;
                    Ok::<_, TchError>(out)
                };
                Ok((wide(0)?, wide(1)?))
            }
        }
    }

    /// Stores updated ranges. `step` distinguishes steps for stochastic rounding.
    pub(crate) fn finish(
        &self,
        range @ (start, length): (i64, i64),
        updated: [&Tensor; 2],
        step: i64,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        match &self.storage {
            Storage::Coded { codec, moments } => {
                for (moment, updated) in moments.iter().zip(updated) {
                    moment.write(codec.as_ref(), range, updated)?;
                }
            }
            Storage::Absent(_) => {}
            Storage::Plain { moments, .. } if moments[0].kind() == Kind::Float => {}
            Storage::Plain { moments, noises } => {
                for ((moment, updated), noise) in moments.iter().zip(updated).zip(noises) {
                    let mut hash = scratch.ints(Slot::WorkA, length)?;
                    let mut work = scratch.ints(Slot::WorkB, length)?;
                    let mut range = moment.f_narrow(0, start, length)?;
                    noise.round(updated, &mut range, (step, start), [&mut hash, &mut work])?;
                }
            }
        }
        Ok(())
    }

    /// The tensors of the state by the suffixes of their names. Moments have this shape; scales are
    /// flat.
    pub(crate) fn state(&self, shape: &[i64]) -> Result<Vec<(String, Tensor)>, TchError> {
        let mut state = Vec::new();
        match &self.storage {
            Storage::Absent(_) => {}
            Storage::Plain { moments, .. } => {
                for (name, moment) in NAMES.iter().zip(moments) {
                    state.push(((*name).to_owned(), moment.f_view(shape)?));
                }
            }
            Storage::Coded { moments, .. } => {
                for (name, moment) in NAMES.iter().zip(moments) {
                    state.push(((*name).to_owned(), moment.codes.f_view(shape)?));
                    state.push((format!("{name}_scales"), moment.scales.shallow_clone()));
                }
            }
        }
        Ok(state)
    }

    /// Names, types and shapes of [`Moments::state`].
    pub(crate) fn expected(&self, shape: &[i64]) -> Vec<(String, Kind, Vec<i64>)> {
        let mut expected = Vec::new();
        match &self.storage {
            Storage::Absent(_) => {}
            Storage::Plain { moments, .. } => {
                for (name, moment) in NAMES.iter().zip(moments) {
                    expected.push(((*name).to_owned(), moment.kind(), shape.to_vec()));
                }
            }
            Storage::Coded { moments, .. } => {
                for (name, moment) in NAMES.iter().zip(moments) {
                    expected.push(((*name).to_owned(), moment.codes.kind(), shape.to_vec()));
                    expected.push((format!("{name}_scales"), moment.scales.kind(), moment.scales.size()));
                }
            }
        }
        expected
    }
}
