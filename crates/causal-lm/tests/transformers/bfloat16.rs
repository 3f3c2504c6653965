//! Gradients of whole models in bfloat16, tensor by tensor, against transformers in float64: on the
//! GPU where there is one, else on the CPU.

use crate::{CASES, Golden, load, names};
use causal_lm::{AttentionKind, CausalLm, ModelOptions, Recompute, TokenBatch};
use tch::{Device, Kind, Tensor};

/// How far a gradient g may be from g₀, and what part of it too much the test is then sure to see.
struct Bound {
    /// ‖g − g₀‖ / ‖g₀‖.
    norm: f64,
    /// |g·g₀ / g₀·g₀ − 1|: a factor shows here, where rounding mostly cancels.
    factor: f64,
    seen: f64,
}

/// One rounding to 8 significant bits is off by 0.0017 in the mean square (2⁻⁷ / √12 over a
/// binade). From a token to its loss and back to a gradient there are about 40 roundings a block,
/// half of them forward (two in each norm, one in each weight, product, rotation, softmax and sum),
/// and 5 in the head: √85 · 0.0017 = 0.015 for two blocks. The backwards of norm and softmax take
/// differences, which makes it up to twice as much. Largest seen on a CPU: 0.029, and 0.014 in the
/// factor.
const BOUND: Bound = Bound { norm: 0.04, factor: 0.025, seen: 0.05 };
/// Biases of keys shift all scores of a query alike but for the rotation: their gradients are what
/// is left, a tenth and less, when terms as large as the other gradients cancel. Largest seen:
/// 0.039 and 0.019.
const OF_REMAINDERS: Bound = Bound { norm: 0.06, factor: 0.04, seen: 0.1 };

impl Bound {
    fn of(name: &str) -> Self {
        if name.ends_with("k_proj.bias") { OF_REMAINDERS } else { BOUND }
    }

    /// What is wrong with `ours`, if anything is.
    fn problem(&self, ours: &Tensor, theirs: &Tensor) -> Option<String> {
        let square = theirs.square().sum(Kind::Double);
        let factor = ((wide(ours) * theirs).sum(Kind::Double) / square).double_value(&[]) - 1.0;
        let norm = relative_norm(ours, theirs);
        let fits = norm < self.norm && factor.abs() < self.factor;
        (!fits).then(|| format!("differs by {norm:.4}, by a factor of 1 + {factor:.4}"))
    }
}

fn device() -> Device {
    if torch_ext::cuda::load() { Device::Cuda(0) } else { Device::Cpu }
}

fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_device(Device::Cpu).to_kind(Kind::Double)
}

fn relative_norm(ours: &Tensor, theirs: &Tensor) -> f64 {
    let theirs = wide(theirs);
    (wide(ours) - &theirs).norm().double_value(&[]) / theirs.norm().double_value(&[])
}

fn bfloat16(case: &str, weights: Kind, attention: AttentionKind, recompute: Recompute) -> CausalLm {
    load(case, weights, |options: &mut ModelOptions| {
        options.device = device();
        options.compute_dtype = Some(Kind::BFloat16);
        options.attention = attention;
        options.recompute = recompute;
    })
}

/// Loss and gradients, in the order of the parameters.
fn gradients(mut model: CausalLm, batch: &TokenBatch) -> (f64, Vec<(String, Tensor)>) {
    let sums = model.forward_backward(batch, 1.0 / batch.num_targets() as f64).unwrap();
    let names = names(&model);
    let gradients = model.parameters_mut().gradients().unwrap().iter().map(Tensor::shallow_clone);
    (sums.loss.double_value(&[]), names.into_iter().zip(gradients).collect())
}

#[test]
fn every_gradient_is_that_of_float64_but_for_rounding() {
    for case in CASES {
        let golden = Golden::of(case);
        let batches = [golden.batch_on(device()), golden.padded_batch_on(device())];
        for (batch, layout) in batches.iter().zip(["end to end", "padded"]) {
            for weights in [Kind::BFloat16, Kind::Float] {
                for attention in [AttentionKind::Flash, AttentionKind::Eager] {
                    let what = format!("{case}, {weights:?} weights, {attention:?}, {layout}");
                    let (loss, ours) = gradients(bfloat16(case, weights, attention, Recompute::None), batch);
                    // A rounding of each logit, and logits are as large as the loss of a token.
                    let error = loss / golden.get("loss").double_value(&[]) - 1.0;
                    assert!(error.abs() < 2f64.powi(-8), "{what}: loss differs by {error:.1e}");
                    for (name, gradient) in &ours {
                        let theirs = golden.get(&format!("gradient.{name}"));
                        let bound = Bound::of(name);
                        let problem = bound.problem(gradient, &theirs);
                        assert!(problem.is_none(), "{what}: gradient of {name} {}", problem.unwrap_or_default());
                        for wrong in [1.0 - bound.seen, 1.0 + bound.seen] {
                            let wrong = wide(gradient) * wrong;
                            assert!(bound.problem(&wrong, &theirs).is_some(), "{what}: {name} wrong and not seen");
                        }
                    }
                    // What is computed again comes out as it was. On a GPU the backward of
                    // attention adds in no fixed order, and a sum at a boundary of rounding falls
                    // on either side of it.
                    let largest = if device() == Device::Cpu { 0.0 } else { 0.01 };
                    let some = Recompute::Within { bytes: 20_000 };
                    for recompute in [Recompute::Block, Recompute::Cheap, some] {
                        let (_, again) = gradients(bfloat16(case, weights, attention, recompute), batch);
                        for ((name, once), (_, again)) in ours.iter().zip(&again) {
                            let error = relative_norm(again, once);
                            assert!(error <= largest, "{what}, {recompute:?}: {name} differs by {error:.1e}");
                        }
                    }
                }
            }
        }
    }
}
