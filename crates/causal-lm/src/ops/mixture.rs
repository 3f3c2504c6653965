//! A mixture of experts as a whole: the router's product, its choice, and the experts.
//!
//! ```text
//! x [n, d] → logits [n, e] → router: experts and weights [n, c] → experts → y [n, d]
//! ```
//!
//! Shapes: `n` tokens, `d` hidden, `e` experts, `c` experts of one token.

use super::experts::{self, Experts};
use super::linear;
use super::router::{self, Choice, Routing};
use crate::Error;
use tch::Tensor;

/// What a mixture computes with.
#[derive(Debug, Clone, Copy)]
pub struct Mixture<'a> {
    /// The router's weight, `[e, d]`.
    pub router: &'a Tensor,
    /// How experts are chosen.
    pub choice: Choice,
    /// The experts.
    pub experts: Experts<'a>,
}

/// What the backward needs in addition to its inputs.
#[derive(Debug)]
pub struct Saved {
    /// The experts of each token, which [`router::Balance`] counts.
    pub routing: Routing,
    experts: experts::Saved,
}

/// The buffers that a backward adds gradients of the weights to.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// `[e, d]`.
    pub router: Tensor,
    /// Those of the experts.
    pub experts: Experts<'a>,
}

/// x `[n, d]` → y `[n, d]`, and what the backward needs.
///
/// # Errors
/// [`Error::Shape`] when tensors do not fit each other; [`Error::Torch`] from libtorch.
pub fn forward(x: &Tensor, mixture: Mixture<'_>) -> Result<(Tensor, Saved), Error> {
    let Mixture { router, choice, experts } = mixture;
    let routing = router::forward(&linear::forward(x, router, None)?, choice)?;
    let (y, experts) = experts::forward(x, experts, &routing)?;
    Ok((y, Saved { routing, experts }))
}

/// From dy `[n, d]`: dx `[n, d]`. Adds the gradients of the weights to their buffers.
///
/// `balance` is the gradient of the probabilities from the loss that balances experts
/// ([`router::Balance::gradient`]): `[e]`, or `[n, e]` where it is 0 for padding.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    dy: &Tensor,
    (x, mixture, saved): (&Tensor, Mixture<'_>, &Saved),
    balance: Option<&Tensor>,
    gradients: Gradients<'_>,
) -> Result<Tensor, Error> {
    let Mixture { router, experts, .. } = mixture;
    let inputs = (x, experts, &saved.routing);
    let experts::Gradients { x: dx, weights } = experts::backward(dy, inputs, &saved.experts, gradients.experts)?;
    let d_logits = router::backward(&weights, &saved.routing, balance)?.f_to_kind(x.f_kind()?)?;
    let mut dx = dx;
    let mut buffers = linear::Gradients { weight: gradients.router, bias: None };
    linear::backward_into(&mut dx, &d_logits, linear::Saved { x, weight: router }, &mut buffers)?;
    Ok(dx)
}
