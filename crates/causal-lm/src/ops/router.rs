//! The router of a mixture of experts (Shazeer et al., arXiv 1701.06538): p = softmax(logits); the
//! `c` experts with the highest p are chosen, and their outputs are weighted with p, or with p
//! divided by its sum over the chosen. Also the loss that balances experts (Fedus et al., arXiv
//! 2101.03961).
//!
//! Shapes: `n` tokens, `e` experts, `c` experts of one token.

use super::{matrix_shape, wide_kind};
use crate::Error;
use tch::{Device, Kind, Tensor};

/// What the outputs of the chosen experts are weighted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighting {
    /// Their probabilities.
    Probability,
    /// Their probabilities, divided by their sum.
    Normalised,
}

/// How experts are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// c.
    pub experts_per_token: i64,
    /// What their outputs are weighted with.
    pub weighting: Weighting,
}

/// The experts of each token. The backward needs it too.
#[derive(Debug)]
pub struct Routing {
    /// The chosen experts, int64 `[n, c]`, the most probable first.
    pub experts: Tensor,
    /// Their weights, float32 or wider, `[n, c]`.
    pub weights: Tensor,
    /// p, float32 or wider, `[n, e]`.
    pub probabilities: Tensor,
    /// The sum of the chosen probabilities, `[n, 1]`, with [`Weighting::Normalised`].
    sum: Option<Tensor>,
}

/// logits `[n, e]` → the experts of each token.
///
/// # Errors
/// [`Error::Shape`] unless logits are a matrix with at least as many columns as a token has
/// experts; [`Error::Torch`] from libtorch.
pub fn forward(logits: &Tensor, choice: Choice) -> Result<Routing, Error> {
    let (n, num_experts) = matrix_shape("router", logits)?;
    let Choice { experts_per_token, weighting } = choice;
    if !(1..=num_experts).contains(&experts_per_token) {
        let expected = format!("{experts_per_token} experts or more, and at least 1 for a token");
        return Err(Error::Shape { operation: "router", expected, found: format!("[{n}, {num_experts}]") });
    }
    const LARGEST: bool = true;
    const SORTED: bool = true;
    let probabilities = logits.f_softmax(1, wide_kind(logits.f_kind()?))?;
    let (mut weights, experts) = probabilities.f_topk(experts_per_token, 1, LARGEST, SORTED)?;
    let mut sum = None;
    if weighting == Weighting::Normalised {
        let chosen = weights.f_sum_dim_intlist(1, true, None)?;
        weights = weights.f_div_(&chosen)?;
        sum = Some(chosen);
    }
    Ok(Routing { experts, weights, probabilities, sum })
}

/// From the gradient of the weights, `[n, c]`: that of the logits, `[n, e]` in float32 or wider.
///
/// `balance` is the gradient of p from another loss, `[e]` for all tokens or `[n, e]`; see
/// [`Balance::gradient`].
///
/// With w = q / s, q the chosen probabilities and s their sum: dq = (dw − Σ dw w) / s. Then
/// d logits = p (dp − Σ p dp).
///
/// # Errors
/// [`Error::Torch`] for tensors that do not fit.
pub fn backward(d_weights: &Tensor, routing: &Routing, balance: Option<&Tensor>) -> Result<Tensor, Error> {
    let Routing { experts, weights, probabilities, sum } = routing;
    let mut d_chosen = d_weights.f_to_kind(probabilities.f_kind()?)?;
    if let Some(sum) = sum {
        let projection = d_chosen.f_mul(weights)?.f_sum_dim_intlist(1, true, None)?;
        d_chosen = d_chosen.f_sub(&projection)?.f_div_(sum)?;
    }
    let mut d_probabilities = probabilities.f_zeros_like()?.f_scatter_(1, experts, &d_chosen)?;
    if let Some(balance) = balance {
        d_probabilities = d_probabilities.f_add_(balance)?;
    }
    let mut weighted = probabilities.f_mul(&d_probabilities)?;
    let row_sums = weighted.f_sum_dim_intlist(1, true, None)?;
    Ok(weighted.f_sub_(&probabilities.f_mul(&row_sums)?)?)
}

/// Counts for the loss that balances experts, over all layers of a batch, as in transformers'
/// `load_balancing_loss_func`.
///
/// The loss is e · Σ f P, where f is how many of an expert's tokens were counted, P the sum of its
/// probabilities, both divided by the number of tokens in all layers. It is at least c, which it
/// is if all experts have the same share.
#[derive(Debug)]
pub struct Balance {
    /// How often each expert was chosen, `[e]`.
    chosen: Tensor,
    /// The sums of probabilities, `[e]`.
    probability: Tensor,
    /// Tokens of all layers, a scalar.
    num_tokens: Tensor,
}

impl Balance {
    /// Nothing counted. `kind` is float32 or wider.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn new(num_experts: i64, kind: Kind, device: Device) -> Result<Self, Error> {
        let zeros = |shape: &[i64]| Tensor::f_zeros(shape, (kind, device));
        Ok(Self { chosen: zeros(&[num_experts])?, probability: zeros(&[num_experts])?, num_tokens: zeros(&[])? })
    }

    /// Counts a layer. `counted` is 1 for tokens that count and 0 for padding, `[n]`; `None` if all
    /// count. Nothing is read back to the host.
    ///
    /// # Errors
    /// [`Error::Torch`] for tensors that do not fit.
    pub fn add(&mut self, routing: &Routing, counted: Option<&Tensor>) -> Result<(), Error> {
        let Routing { experts, probabilities, .. } = routing;
        let kind = self.chosen.f_kind()?;
        let (n, _) = matrix_shape("balance", experts)?;
        let weights = match counted {
            Some(counted) => counted.f_to_kind(kind)?.f_view([n, 1])?,
            None => Tensor::f_ones([n, 1], (kind, experts.device()))?,
        };
        let one_each = weights.f_expand_as(experts)?.f_reshape(-1)?;
        let _ = self.chosen.f_index_add_(0, &experts.f_reshape(-1)?, &one_each)?;
        let sums = probabilities.f_to_kind(kind)?.f_mul(&weights)?.f_sum_dim_intlist(0, false, None)?;
        let _ = self.probability.f_add_(&sums)?;
        let _ = self.num_tokens.f_add_(&weights.f_sum(None)?)?;
        Ok(())
    }

    /// The loss, a scalar on the device. Without tokens it is not a number, as in transformers.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn loss(&self) -> Result<Tensor, Error> {
        Ok(self.factor()?.f_mul(&self.chosen.f_dot(&self.probability)?)?)
    }

    /// The gradient of `scale` · loss in the probabilities of a token that counts, the same for
    /// all: `[e]`. Call it when all layers are counted.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn gradient(&self, scale: &Tensor) -> Result<Tensor, Error> {
        let factor = self.factor()?.f_mul(&scale.f_to_kind(self.chosen.f_kind()?)?)?;
        Ok(self.chosen.f_mul(&factor)?)
    }

    /// e / tokens².
    fn factor(&self) -> Result<Tensor, Error> {
        let num_experts = self.chosen.numel() as f64;
        Ok(self.num_tokens.f_square()?.f_reciprocal()?.f_mul_scalar(num_experts)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, assert_close, device, each_precision, random};

    fn reference(logits: &Tensor, choice: Choice) -> (Tensor, Tensor, Tensor) {
        let probabilities = logits.softmax(1, Kind::Double);
        let (chosen, experts) = probabilities.topk(choice.experts_per_token, 1, true, true);
        let weights = match choice.weighting {
            Weighting::Probability => chosen,
            Weighting::Normalised => &chosen / chosen.sum_dim_intlist(1, true, None),
        };
        (weights, experts, probabilities)
    }

    const CASES: [(i64, i64, i64, Weighting); 5] = [
        (1, 3, 2, Weighting::Probability),
        (7, 4, 2, Weighting::Normalised),
        (20, 9, 3, Weighting::Probability),
        (5, 6, 6, Weighting::Normalised),
        (13, 5, 1, Weighting::Probability),
    ];

    #[test]
    fn equals_autograd() {
        for (n, num_experts, experts_per_token, weighting) in CASES {
            let choice = Choice { experts_per_token, weighting };
            each_precision(|kind| {
                let (logits, dw) = (random(&[n, num_experts], kind), random(&[n, experts_per_token], kind));
                let mut check = Check::of(&[&logits], &dw, |t| reference(&t[0], choice).0);
                let routing = forward(&logits, choice).unwrap();
                check.forward(&routing.weights);
                assert_eq!(routing.experts, reference(&logits.to_kind(Kind::Double), choice).1);
                if weighting == Weighting::Normalised || experts_per_token < num_experts {
                    check.gradient(0, &backward(&dw, &routing, None).unwrap());
                }
            });
        }
        let logits = random(&[2, 3], Kind::Float);
        let too_many = Choice { experts_per_token: 4, weighting: Weighting::Probability };
        assert!(forward(&logits, too_many).unwrap_err().to_string().contains("[2, 3]"));
    }

    /// Two layers, of which each has its part in the other's gradient, and padding.
    #[test]
    fn the_balancing_loss_equals_autograd_of_transformers_formula() {
        let choice = Choice { experts_per_token: 2, weighting: Weighting::Normalised };
        for has_padding in [false, true] {
            each_precision(|kind| {
                let layers = [random(&[6, 5], kind), random(&[6, 5], kind)];
                let mask = Tensor::from_slice(&[1.0f32, 1.0, 0.0, 1.0, 1.0, 0.0]).to_device(device());
                let counted = has_padding.then_some(&mask);
                let dy = random(&[1], kind);
                let mut check = Check::of(&[&layers[0], &layers[1]], &dy, |t| {
                    let weights =
                        if has_padding { mask.to_kind(Kind::Double) } else { mask.to_kind(Kind::Double).ones_like() };
                    let both: Vec<_> = t.iter().map(|logits| reference(logits, choice)).collect();
                    let chosen = both.iter().map(|(_, experts, _)| {
                        let one_hot = experts.one_hot(5).to_kind(Kind::Double).sum_dim_intlist(1, false, None);
                        (one_hot * weights.unsqueeze(1)).sum_dim_intlist(0, false, None)
                    });
                    let sums = both.iter().map(|(_, _, p)| (p * weights.unsqueeze(1)).sum_dim_intlist(0, false, None));
                    let total = weights.sum(Kind::Double) * 2.0;
                    let product: Tensor = chosen.sum::<Tensor>() / &total * (sums.sum::<Tensor>() / &total);
                    product.sum(Kind::Double).unsqueeze(0) * 5.0
                });
                let routings = layers.each_ref().map(|logits| forward(logits, choice).unwrap());
                let mut balance = Balance::new(5, wide_kind(kind), device()).unwrap();
                for routing in &routings {
                    balance.add(routing, counted).unwrap();
                }
                assert!(balance.loss().unwrap().double_value(&[]) >= 2.0 * 0.5);
                check.forward(&balance.loss().unwrap().unsqueeze(0));
                let gradient = balance.gradient(&dy.squeeze()).unwrap();
                let gradient = match counted {
                    Some(mask) => mask.unsqueeze(1) * gradient.unsqueeze(0),
                    None => gradient,
                };
                for (layer, routing) in routings.iter().enumerate() {
                    let none = routing.weights.zeros_like();
                    check.gradient(layer, &backward(&none, routing, Some(&gradient)).unwrap());
                }
            });
        }
    }

    #[test]
    fn equal_shares_give_the_number_of_experts_of_a_token() {
        let choice = Choice { experts_per_token: 2, weighting: Weighting::Probability };
        let logits = Tensor::eye(4, (Kind::Float, device())) + Tensor::eye(4, (Kind::Float, device())).roll([1], [1]);
        let mut balance = Balance::new(4, Kind::Float, device()).unwrap();
        balance.add(&forward(&logits, choice).unwrap(), None).unwrap();
        assert_close(&balance.loss().unwrap(), &Tensor::from(2.0), Kind::Float, "loss");
    }
}
