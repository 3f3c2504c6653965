//! Random orthonormal columns: normally distributed numbers, made orthonormal, so that every
//! subspace is as likely as any other.
//!
//! The numbers come from a key (the seed, the target and the step), on the host. So they are the
//! same on all devices, and need no state.

use super::orthonormal::columns;
use super::{Bases, FindBases, Wanted};
use crate::master::Noise;
use tch::{Device, TchError, Tensor};

#[derive(Debug)]
pub(super) struct RandomColumns;

impl FindBases for RandomColumns {
    fn name(&self) -> &'static str {
        "the draw of random columns"
    }

    fn find(&self, gradients: &Tensor, _largest: &Tensor, wanted: &Wanted<'_>) -> Result<Bases, TchError> {
        let (b, rows, cols) = gradients.size3()?;
        let device = gradients.device();
        let draw = |n, side: u64| columns(&normal([b, n, wanted.rank], wanted.key ^ side, device)?);
        Ok(Bases {
            left: wanted.side.has_left().then(|| draw(rows, 0)).transpose()?,
            right: wanted.side.has_right().then(|| draw(cols, 1)?.f_transpose(1, 2)).transpose()?,
        })
    }

    /// Fresh directions on purpose: there is nothing that they continue.
    fn matches_previous(&self) -> bool {
        false
    }
}

/// Standard normal numbers of this key, float32, by the method of Box and Muller.
fn normal(shape: [i64; 3], key: u64, device: Device) -> Result<Tensor, TchError> {
    let numel = shape.iter().product::<i64>().unsigned_abs();
    let uniform = |index: u64| {
        let mixed = |number: u64| Noise::mixed(number as i64);
        let bits = mixed(key.wrapping_add(mixed(index))) >> 11;
        (bits as f64 + 0.5) / (1u64 << 53) as f64
    };
    let number = |index: u64| {
        let (radius, turn) = (uniform(2 * index), uniform(2 * index + 1));
        ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()) as f32
    };
    let numbers: Vec<f32> = (0..numel).map(number).collect();
    Tensor::f_from_slice(&numbers)?.f_view(shape)?.f_to_device(device)
}
