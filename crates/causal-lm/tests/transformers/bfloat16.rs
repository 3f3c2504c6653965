//! Gradients of whole models in bfloat16, compared tensor by tensor with those of transformers in
//! float64: on the GPU if there is one, else on the CPU.

use crate::{CASES, Golden, load, names};
use causal_lm::{AttentionKind, CausalLm, ModelOptions, Recompute, TokenBatch};
use tch::{Device, Kind, Tensor};

/// How far a gradient g may be from g₀, and what error the test is sure to detect.
struct Bound {
    /// ‖g − g₀‖ / ‖g₀‖.
    norm: f64,
    /// |g·g₀ / g₀·g₀ − 1|. A wrong factor shows here, because rounding errors mostly cancel.
    factor: f64,
    /// A gradient that is wrong by this factor must not pass.
    detected: f64,
}

/// One rounding to 8 significant bits has a root-mean-square error of 0.0017 (2⁻⁷ / √12 over a
/// binade). From a token to its loss and back to a gradient there are about 40 roundings per block,
/// half of them in the forward (two in each norm, one in each weight, product, rotation, softmax
/// and sum), and 5 in the head: √85 · 0.0017 = 0.015 for two blocks. The backwards of norm and
/// softmax take differences, which makes the error up to twice as large. The largest errors on a
/// CPU were 0.029, and 0.014 in the factor.
const BOUND: Bound = Bound { norm: 0.04, factor: 0.025, detected: 0.05 };
/// Biases of keys, apart from the rotation, shift all scores of a query alike. Their gradients are
/// what remains when terms as large as the other gradients cancel, a tenth or less of those. The
/// largest errors were 0.039 and 0.019.
const KEY_BIAS_BOUND: Bound = Bound { norm: 0.06, factor: 0.04, detected: 0.1 };

/// Gemma 3 has six norms in a block and three blocks, OLMo 2 norms behind attention and MLP: more
/// roundings in a row. The gradients of norms of queries and keys are small sums of large terms. In
/// bfloat16 transformers' own gradients are up to 0.036 off in Gemma's case and 0.042 in OLMo's,
/// 0.015 in the factor.
const MANY_NORMS_BOUND: Bound = Bound { norm: 0.08, factor: 0.07, detected: 0.15 };

impl Bound {
    fn of(case: &str, name: &str) -> Self {
        match case {
            "gemma3" | "olmo2" => MANY_NORMS_BOUND,
            _ if name.ends_with("k_proj.bias") => KEY_BIAS_BOUND,
            _ => BOUND,
        }
    }

    /// What is wrong with `ours`; `None` if it is within the bound.
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
fn every_gradient_is_that_of_float64_except_for_rounding() {
    for case in CASES {
        let golden = Golden::of(case);
        let batches = [golden.batch_on(device()), golden.padded_batch_on(device())];
        for (batch, layout) in batches.iter().zip(["end to end", "padded"]) {
            for weights in [Kind::BFloat16, Kind::Float] {
                for attention in [AttentionKind::Flash, AttentionKind::Eager] {
                    let what = format!("{case}, {weights:?} weights, {attention:?}, {layout}");
                    let (loss, ours) = gradients(bfloat16(case, weights, attention, Recompute::None), batch);
                    // Each logit is rounded once, and logits are as large as the loss of a token.
                    let error = loss / golden.get("loss").double_value(&[]) - 1.0;
                    assert!(error.abs() < 2f64.powi(-8), "{what}: loss differs by {error:.1e}");
                    for (name, gradient) in &ours {
                        let theirs = golden.get(&format!("gradient.{name}"));
                        let bound = Bound::of(case, name);
                        let problem = bound.problem(gradient, &theirs);
                        assert!(problem.is_none(), "{what}: gradient of {name} {}", problem.unwrap_or_default());
                        for wrong in [1.0 - bound.detected, 1.0 + bound.detected] {
                            let wrong = wide(gradient) * wrong;
                            assert!(
                                bound.problem(&wrong, &theirs).is_some(),
                                "{what}: {name} is wrong and not detected"
                            );
                        }
                    }
                    // What is computed again has the same values. On a GPU the backward of
                    // attention adds in no fixed order, so a sum may be rounded either way.
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
