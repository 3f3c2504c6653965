//! The experts of a mixture: each token goes through the MLPs that its router chose
//! ([`router`](super::router)), and their outputs are added, each with its weight.
//!
//! Copies of the tokens are sorted by expert, so each expert has one product. On CUDA in 16 bits,
//! one call computes all of them and nothing is read back to the host.
//!
//! Shapes: `n` tokens, `d` hidden, `f` intermediate, `e` experts, `c` experts of one token, `m`
//! columns of the first product: 2 f with a gate, f without.

mod products;

use super::glu::{self, Unit};
use super::router::Routing;
use super::{matrix_shape, three_dimensions};
use crate::Error;
use products::Groups;
use tch::{Kind, Tensor};

/// The weights of all experts, stacked, or the buffers of their gradients.
#[derive(Debug, Clone, Copy)]
pub struct Experts<'a> {
    /// `[e, m, d]`: of each expert the rows of gate, then of up.
    pub gate_up: &'a Tensor,
    /// `[e, d, f]`.
    pub down: &'a Tensor,
    /// The middle of each MLP.
    pub unit: Unit,
}

/// What the backward needs in addition to its inputs.
#[derive(Debug)]
pub struct Saved {
    order: Order,
    /// The output of the first product, for the tokens in the order of their experts, `[n c, m]`.
    gate_up: Tensor,
}

/// The gradients of what [`forward`] computes from. Those of the weights go to their buffers.
#[derive(Debug)]
pub struct Gradients {
    /// `[n, d]`.
    pub x: Tensor,
    /// Of [`Routing::weights`], float32 or wider, `[n, c]`.
    pub weights: Tensor,
}

/// Copies of tokens in the order of their experts. A copy is counted from 0, and belongs to token
/// copy / c.
#[derive(Debug)]
struct Order {
    /// The copies in order, int64 `[n c]`.
    copies: Tensor,
    /// Their tokens, int64 `[n c]`.
    tokens: Tensor,
    /// The place of each copy in the order, int64 `[n c]`.
    places: Tensor,
    /// How the order is divided among experts.
    groups: Groups,
    num_tokens: i64,
}

impl Order {
    fn new(routing: &Routing, [num_experts, d, m, f]: [i64; 4], kind: Kind) -> Result<Self, Error> {
        const STABLE: bool = true;
        let (n, c) = matrix_shape("experts", &routing.experts)?;
        let experts = routing.experts.f_reshape(-1)?;
        let (_, copies) = experts.f_sort_stable(STABLE, 0, false)?;
        let range = Tensor::f_arange(n * c, (Kind::Int64, experts.device()))?;
        let places = copies.f_empty_like()?.f_scatter_(0, &copies, &range)?;
        let tokens = copies.f_floor_divide_scalar(c)?;
        Ok(Self { tokens, places, groups: Groups::new(&experts, num_experts, kind, [d, m, f])?, copies, num_tokens: n })
    }

    /// `[n, d]` → the rows of the copies, in order, `[n c, d]`.
    fn spread(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.f_index_select(0, &self.tokens)?)
    }

    /// Rows of the copies in order, `[n c, …]` → `[n, c, …]`.
    fn restore(&self, rows: &Tensor) -> Result<Tensor, Error> {
        let (_, width) = matrix_shape("experts", rows)?;
        Ok(rows.f_index_select(0, &self.places)?.f_view([self.num_tokens, -1, width])?)
    }

    /// Weights `[n, c]` → those of the copies in order, `[n c, 1]`.
    fn weights(&self, routing: &Routing) -> Result<Tensor, Error> {
        Ok(routing.weights.f_reshape(-1)?.f_index_select(0, &self.copies)?.f_unsqueeze(1)?)
    }
}

/// x `[n, d]` → y `[n, d]`, the weighted sum of its experts' outputs, and what the backward needs.
///
/// # Errors
/// [`Error::Shape`] when tensors do not fit each other; [`Error::Torch`] from libtorch.
pub fn forward(x: &Tensor, experts: Experts<'_>, routing: &Routing) -> Result<(Tensor, Saved), Error> {
    let kind = x.f_kind()?;
    let order = Order::new(routing, check(x, experts, routing)?, kind)?;
    let gate_up = order.groups.product(&order.spread(x)?, &experts.gate_up.f_transpose(1, 2)?)?; // [n c, m]
    let middle = glu::forward(experts.unit, &gate_up)?;
    let output = order.groups.product(&middle, &experts.down.f_transpose(1, 2)?)?; // [n c, d]
    let weighted = output.f_mul(&order.weights(routing)?)?.f_to_kind(kind)?;
    let y = order.restore(&weighted)?.f_sum_dim_intlist(1, false, None)?;
    Ok((y, Saved { order, gate_up }))
}

/// From dy `[n, d]`: the gradients of x and of the router's weights. Adds those of the experts'
/// weights to the buffers `gradients`.
///
/// With E the second product's weight, a the middle and w the weight of an expert:
/// dw = (dy E) · a, da = w dy E, dE += w dyᵀ a.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    dy: &Tensor,
    (x, experts, routing): (&Tensor, Experts<'_>, &Routing),
    saved: &Saved,
    gradients: Experts<'_>,
) -> Result<Gradients, Error> {
    check(dy, experts, routing)?;
    let Saved { order, gate_up } = saved;
    let kind = x.f_kind()?;
    let weights = order.weights(routing)?;
    let dy = order.spread(dy)?;
    let d_middle = order.groups.product(&dy, experts.down)?; // [n c, f], not weighted
    let (d_gate_up, middle) = glu::backward(experts.unit, d_middle.f_mul(&weights)?.f_to_kind(kind)?, gate_up)?;
    let wide = routing.weights.f_kind()?;
    let d_weights = d_middle.f_to_kind(wide)?.f_mul(&middle)?.f_sum_dim_intlist(1, true, None)?; // [n c, 1]
    drop(d_middle);
    let weighted = { dy }.f_mul(&weights)?.f_to_kind(kind)?;
    order.groups.add_outer_product(gradients.down, &weighted, &middle)?;
    drop((weighted, middle));
    order.groups.add_outer_product(gradients.gate_up, &d_gate_up, &order.spread(x)?)?;
    let dx = order.groups.product(&d_gate_up, experts.gate_up)?; // [n c, d]
    Ok(Gradients {
        x: order.restore(&dx)?.f_sum_dim_intlist(1, false, None)?,
        weights: order.restore(&d_weights)?.f_squeeze_dim(2)?,
    })
}

/// e, d, m and f, if everything fits.
fn check(x: &Tensor, experts: Experts<'_>, routing: &Routing) -> Result<[i64; 4], Error> {
    let (n, d) = matrix_shape("experts", x)?;
    let (num_experts, m, gate_up_d) = three_dimensions("experts", experts.gate_up)?;
    let (down_experts, down_d, f) = three_dimensions("experts", experts.down)?;
    let (routed, _) = matrix_shape("experts", &routing.experts)?;
    let fits = (gate_up_d, down_d) == (d, d) && down_experts == num_experts && m == f * experts.unit.inputs();
    if fits && routed == n {
        return Ok([num_experts, d, m, f]);
    }
    Err(Error::Shape {
        operation: "experts",
        expected: "gate_up [e, m, d] and down [e, d, f], for x [n, d] and its routing".to_owned(),
        found: format!(
            "[{num_experts}, {m}, {gate_up_d}], [{down_experts}, {down_d}, {f}], [{n}, {d}] and [{routed}, …]"
        ),
    })
}

#[cfg(test)]
mod tests;
