//! 8 bits a number in groups of 32, with curves in place of tables (FlashOptim,
//! [2602.23349](https://arxiv.org/abs/2602.23349)):
//!
//! ```text
//! first moment:   x = m / max|m|     y = 2x / (1 + |x|)     int8  c = round(127 y)
//!                                    and back: x = y / (2 − |y|)
//! second moment:  s = max √v         uint8 c = round(255 √v / s), at least 1 unless v = 0
//! ```
//!
//! The curve of the first has finer steps near zero. The second is kept by its root, which is what
//! a step divides by. Two things differ from the paper. A positive second moment never becomes
//! zero, because the next step would divide by ε alone. And the scales are float32: with 16 bits
//! the largest number of a group would round to itself in every step and never decay.

use super::{Codec, Moment, normalised};
use tch::{Kind, TchError, Tensor};

const GROUP: i64 = 32;
const FIRST_LEVELS: f64 = 127.0;
const SECOND_LEVELS: f64 = 255.0;

#[derive(Debug)]
pub(super) struct Compact;

impl Codec for Compact {
    fn block(&self) -> i64 {
        GROUP
    }

    fn kind(&self, moment: Moment) -> Kind {
        match moment {
            Moment::First => Kind::Int8,
            Moment::Second => Kind::Uint8,
        }
    }

    fn encode(&self, moment: Moment, groups: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let (curved, levels, scales) = match moment {
            Moment::First => {
                let scales = groups.f_abs()?.f_amax([1], true)?;
                let x = normalised(groups, &scales)?;
                (x.f_mul_scalar(2.0)?.f_div(&x.f_abs()?.f_add_scalar(1.0)?)?, FIRST_LEVELS, scales)
            }
            Moment::Second => {
                let roots = groups.f_sqrt()?;
                let scales = roots.f_amax([1], true)?;
                (normalised(&roots, &scales)?, SECOND_LEVELS, scales)
            }
        };
        let rounded = curved.f_mul_scalar(levels)?.f_round()?;
        let codes = match moment {
            Moment::First => rounded,
            Moment::Second => rounded.f_maximum(&groups.f_gt(0.0)?.f_to_kind(Kind::Float)?)?,
        };
        Ok((codes.f_to_kind(self.kind(moment))?, scales))
    }

    fn decode(&self, moment: Moment, codes: &Tensor, scales: &Tensor) -> Result<Tensor, TchError> {
        let codes = codes.f_to_kind(Kind::Float)?;
        match moment {
            Moment::First => {
                let y = codes.f_div_scalar(FIRST_LEVELS)?;
                y.f_div(&y.f_abs()?.f_neg()?.f_add_scalar(2.0)?)?.f_mul(scales)
            }
            Moment::Second => codes.f_div_scalar(SECOND_LEVELS)?.f_mul(scales)?.f_square(),
        }
    }
}
