use super::*;
use crate::ops::check::{Check, each_precision, random};
use crate::ops::glu::{Activation, Gate};
use crate::ops::router::{self, Choice, Weighting};

const GATED: Unit = Unit { activation: Activation::Silu, gate: Gate::Gated };
const PLAIN: Unit = Unit { activation: Activation::GeluTanh, gate: Gate::Plain };

/// Every expert computes every token; those that were not chosen have the weight 0.
fn reference(t: &[Tensor], unit: Unit, experts: &Tensor) -> Tensor {
    let [x, weights, gate_up, down] = [0, 1, 2, 3].map(|index| &t[index]);
    let num_experts = gate_up.size()[0];
    let dense = Tensor::zeros([x.size()[0], num_experts], (Kind::Double, x.device())).scatter_add(1, experts, weights);
    let of = |expert: i64| {
        let product = x.matmul(&gate_up.get(expert).tr());
        let middle = match unit.gate {
            Gate::Gated => product.chunk(2, 1)[0].silu() * &product.chunk(2, 1)[1],
            Gate::Plain => product.gelu("tanh"),
        };
        middle.matmul(&down.get(expert).tr()) * dense.select(1, expert).unsqueeze(1)
    };
    (0..num_experts).map(of).sum()
}

#[test]
fn equals_autograd() {
    // A few tokens, one, many; sizes that a GPU's kernel does not take; experts without tokens, as
    // many experts for a token as there are.
    for (unit, [n, d, f], num_experts, c) in
        [(GATED, [9, 8, 16], 4, 2), (GATED, [1, 8, 8], 5, 2), (GATED, [3, 16, 8], 12, 1), (PLAIN, [7, 8, 8], 3, 3)]
    {
        each_precision(|kind| {
            let x = random(&[n, d], kind);
            let gate_up = random(&[num_experts, unit.inputs() * f, d], kind);
            let (down, dy) = (random(&[num_experts, d, f], kind), random(&[n, d], kind));
            let choice = Choice { experts_per_token: c, weighting: Weighting::Probability };
            let routing = router::forward(&random(&[n, num_experts], kind), choice).unwrap();
            let mut check =
                Check::of(&[&x, &routing.weights, &gate_up, &down], &dy, |t| reference(t, unit, &routing.experts));
            let experts = Experts { gate_up: &gate_up, down: &down, unit };
            let (y, saved) = forward(&x, experts, &routing).unwrap();
            check.forward(&y);
            let buffers = [gate_up.zeros_like(), down.zeros_like()];
            let gradients = Experts { gate_up: &buffers[0], down: &buffers[1], unit };
            let found = backward(&dy, (&x, experts, &routing), &saved, gradients).unwrap();
            check.gradient(0, &found.x);
            check.gradient(1, &found.weights);
            check.gradient(2, &buffers[0]);
            check.gradient(3, &buffers[1]);
            backward(&dy, (&x, experts, &routing), &saved, gradients).unwrap();
            check.gradient(2, &(&buffers[0] / 2.0)); // added, not overwritten
            check.gradient(3, &(&buffers[1] / 2.0));
        });
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let choice = Choice { experts_per_token: 1, weighting: Weighting::Probability };
    let routing = router::forward(&random(&[3, 2], Kind::Float), choice).unwrap();
    let (gate_up, down) = (random(&[2, 10, 4], Kind::Float), random(&[2, 4, 6], Kind::Float));
    let experts = Experts { gate_up: &gate_up, down: &down, unit: GATED };
    let message = forward(&random(&[3, 4], Kind::Float), experts, &routing).unwrap_err().to_string();
    assert!(message.contains("[2, 10, 4], [2, 4, 6]"), "{message}");
}
