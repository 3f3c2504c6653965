//! 8 bits a number, as bitsandbytes keeps them ([2110.02861](https://arxiv.org/abs/2110.02861)): in
//! blocks of 256, each number divided by the block's largest absolute value and replaced by the
//! nearest of 256 fixed numbers, whose distances grow with their magnitude.
//!
//! The two tables are embedded, as float32. They are rounded where they are made, and no two ways
//! to compute them agree in every last bit.

use super::{Codec, Moment, normalised};
use tch::{Device, Kind, TchError, Tensor};

/// Smaller tensors stay in float32, as in bitsandbytes.
pub(super) const MIN_ELEMENTS: i64 = 4096;
const BLOCK: i64 = 256;
pub(super) const SIGNED: &[u8; 1024] = include_bytes!("dynamic_map_signed.f32");
pub(super) const UNSIGNED: &[u8; 1024] = include_bytes!("dynamic_map_unsigned.f32");

/// The tables, on the moments' device.
#[derive(Debug)]
pub(super) struct Blockwise {
    signed: Table,
    unsigned: Table,
}

#[derive(Debug)]
struct Table {
    /// What each code stands for, ascending.
    numbers: Tensor,
    /// Halfway between neighbours.
    midpoints: Tensor,
}

impl Table {
    fn new(bytes: &[u8], device: Device) -> Result<Self, TchError> {
        let numbers = Tensor::f_from_data_size(bytes, &[256], Kind::Float)?;
        let midpoints = numbers.f_narrow(0, 0, 255)?.f_add(&numbers.f_narrow(0, 1, 255)?)?.f_mul_scalar(0.5)?;
        Ok(Table { numbers: numbers.f_to_device(device)?, midpoints: midpoints.f_to_device(device)? })
    }
}

impl Blockwise {
    pub(super) fn new(device: Device) -> Result<Self, TchError> {
        Ok(Blockwise { signed: Table::new(SIGNED, device)?, unsigned: Table::new(UNSIGNED, device)? })
    }

    fn table(&self, moment: Moment) -> &Table {
        match moment {
            Moment::First => &self.signed,
            Moment::Second => &self.unsigned,
        }
    }

    fn numbers(&self, moment: Moment, codes: &Tensor) -> Result<Tensor, TchError> {
        let flat = codes.f_to_kind(Kind::Int)?.f_view([-1])?;
        self.table(moment).numbers.f_index_select(0, &flat)?.f_view(&codes.size()[..])
    }
}

impl Codec for Blockwise {
    fn block(&self) -> i64 {
        BLOCK
    }

    fn kind(&self, _moment: Moment) -> Kind {
        Kind::Uint8
    }

    fn encode(&self, moment: Moment, blocks: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let scales = blocks.f_abs()?.f_amax([1], true)?;
        let normalised = normalised(blocks, &scales)?;
        let nearest = normalised.f_bucketize(&self.table(moment).midpoints, true, false)?;
        let nearest = match moment {
            Moment::Second => nearest,
            // A negative first moment that would round to zero keeps its sign, as in bitsandbytes.
            Moment::First => {
                let lost = self.numbers(moment, &nearest)?.f_ge(0.0)?.f_logical_and(&normalised.f_lt(0.0)?)?;
                nearest.f_sub(&lost.f_to_kind(Kind::Int)?)?
            }
        };
        Ok((nearest.f_to_kind(Kind::Uint8)?, scales))
    }

    fn decode(&self, moment: Moment, codes: &Tensor, scales: &Tensor) -> Result<Tensor, TchError> {
        self.numbers(moment, codes)?.f_mul(scales)
    }
}
