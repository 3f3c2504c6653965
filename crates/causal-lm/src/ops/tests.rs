//! Operations against the modules and functions of transformers that they stand for, output and
//! every gradient in float64 (make_operations.py).

use super::attention::{self, AttentionKind, Scores};
use super::experts::{self, Experts};
use super::glu::{self, Activation, Gate, Unit};
use super::norm::{self, Gain, Norm, NormKind};
use super::router::{self, Balance, Choice, Weighting};
use super::*;
use crate::RowLayout;
use safetensors::SafeTensors;
use std::num::NonZeroUsize;

/// The largest difference allowed, relative to the largest value.
const TOLERANCE: f64 = 1e-12;

/// The tensors whose names begin with one prefix.
struct Golden {
    file: SafeTensors<'static>,
    prefix: String,
}

impl Golden {
    fn of(prefix: &str) -> Self {
        let file = SafeTensors::deserialize(include_bytes!("../../tests/goldens/operations.safetensors")).unwrap();
        Self { file, prefix: prefix.to_owned() }
    }

    fn has(&self, name: &str) -> bool {
        self.file.tensor(&format!("{}.{name}", self.prefix)).is_ok()
    }

    fn get(&self, name: &str) -> Tensor {
        let view = self.file.tensor(&format!("{}.{name}", self.prefix)).unwrap();
        let kind = match view.dtype() {
            safetensors::Dtype::F64 => Kind::Double,
            safetensors::Dtype::F32 => Kind::Float,
            _ => Kind::BFloat16,
        };
        let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
        Tensor::f_from_data_size(view.data(), &shape, kind).unwrap()
    }

    fn check(&self, name: &str, ours: &Tensor) {
        let theirs = self.get(name);
        assert_eq!(ours.size(), theirs.size(), "{} {name}", self.prefix);
        let difference = (ours - &theirs).abs().max().double_value(&[]);
        let bound = TOLERANCE * theirs.abs().max().double_value(&[]).max(1e-30);
        assert!(difference <= bound, "{} {name}: off by {difference:.2e}", self.prefix);
    }
}

#[test]
fn attention_equals_gemma_2s() {
    for (name, window, soft_cap) in [("window", Some(5), None), ("cap", None, Some(2.0)), ("both", Some(4), Some(1.5))]
    {
        let golden = Golden::of(&format!("attention.{name}"));
        let [query, key, value] = ["query", "key", "value"].map(|name| golden.get(name));
        let rows = RowLayout::new(&[7, 12, 1], tch::Device::Cpu).unwrap();
        let scores = Scores { scale: 0.3, window: window.and_then(NonZeroUsize::new), soft_cap };
        let inputs = attention::Inputs { query: &query, key: &key, value: &value, rows: &rows, scores };
        for kind in [AttentionKind::Flash, AttentionKind::Eager] {
            let (output, saved) = attention::forward(kind, inputs).unwrap();
            golden.check("output", &output);
            let gradients = attention::backward(&golden.get("dy"), inputs, &saved).unwrap();
            golden.check("d_query", &gradients.query);
            golden.check("d_key", &gradients.key);
            golden.check("d_value", &gradients.value);
        }
    }
}

#[test]
fn norms_equal_those_of_llama_olmo_2_and_gemma_3() {
    for (name, kind) in [
        ("rounded", NormKind::Rms(Gain::Rounded)),
        ("wide", NormKind::Rms(Gain::Wide)),
        ("one_plus", NormKind::Rms(Gain::WideOnePlus)),
        ("layer", NormKind::Layer),
    ] {
        let golden = Golden::of(&format!("norm.{name}"));
        let (x, weight) = (golden.get("x"), golden.get("weight"));
        let bias = golden.has("bias").then(|| golden.get("bias"));
        let norm = Norm { kind, weight: &weight, bias: bias.as_ref(), epsilon: 1e-5 };
        let (y, statistics) = norm::forward(&x, norm).unwrap();
        golden.check("output", &y);
        let saved = norm::Saved { x: &x, norm, statistics: &statistics };
        let mut gradients =
            norm::Gradients { weight: weight.zeros_like(), bias: bias.as_ref().map(Tensor::zeros_like) };
        golden.check("d_x", &norm::backward(&golden.get("dy"), saved, None, &mut gradients).unwrap());
        golden.check("d_weight", &gradients.weight);
        if let Some(bias) = &gradients.bias {
            golden.check("d_bias", bias);
        }

        // In bfloat16 the same values, where transformers rounds.
        let narrow = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
        let (x, weight, bias) = (narrow(&x), narrow(&weight), bias.as_ref().map(narrow));
        let norm = Norm { kind, weight: &weight, bias: bias.as_ref(), epsilon: 1e-5 };
        let (y, _) = norm::forward(&x, norm).unwrap();
        let different = y.ne_tensor(&golden.get("bfloat16")).sum(Kind::Int64).int64_value(&[]);
        assert!(different <= 1, "{name}: {different} of {} differ in bfloat16", y.numel());
    }
}

#[test]
fn activations_equal_transformers() {
    for (name, activation) in
        [("silu", Activation::Silu), ("gelu", Activation::Gelu), ("gelu_pytorch_tanh", Activation::GeluTanh)]
    {
        let golden = Golden::of(&format!("activation.{name}"));
        let unit = Unit { activation, gate: Gate::Plain };
        golden.check("output", &glu::forward(unit, &golden.get("x")).unwrap());
        let (dx, _) = glu::backward(unit, golden.get("dy"), &golden.get("x")).unwrap();
        golden.check("d_x", &dx);
    }
}

/// Two layers on the same tokens, of which two are padding for the balancing loss, which counts
/// half.
#[test]
fn mixtures_equal_those_of_qwen_3_olmoe_and_mixtral() {
    for (name, weighting) in
        [("qwen3_moe", Weighting::Normalised), ("olmoe", Weighting::Probability), ("mixtral", Weighting::Normalised)]
    {
        let golden = Golden::of(&format!("mixture.{name}"));
        let unit = Unit { activation: Activation::Silu, gate: Gate::Gated };
        let (x, dy, mask) = (golden.get("x"), golden.get("dy").chunk(2, 0), golden.get("mask"));
        let choice = Choice { experts_per_token: 2, weighting };
        let mut balance = Balance::new(5, Kind::Double, x.device()).unwrap();
        let weights = [0, 1].map(|layer| {
            let of = |name: &str| golden.get(&format!("{layer}.{name}"));
            [of("gate.weight"), of("experts.gate_up_proj"), of("experts.down_proj")]
        });
        let forwards = weights.each_ref().map(|[gate, gate_up, down]| {
            let routing = router::forward(&x.matmul(&gate.tr()), choice).unwrap();
            balance.add(&routing, Some(&mask)).unwrap();
            let (y, saved) = experts::forward(&x, Experts { gate_up, down, unit }, &routing).unwrap();
            (y, routing, saved)
        });
        golden.check("output", &Tensor::cat(&[&forwards[0].0, &forwards[1].0], 0));
        golden.check("aux", &balance.loss().unwrap());
        let d_probabilities = mask.unsqueeze(1) * balance.gradient(&Tensor::from(0.5)).unwrap();
        let mut dx = x.zeros_like();
        for (layer, ([gate, gate_up, down], (_, routing, saved))) in weights.iter().zip(&forwards).enumerate() {
            let buffers = [gate_up.zeros_like(), down.zeros_like()];
            let gradients = Experts { gate_up: &buffers[0], down: &buffers[1], unit };
            let inputs = (&x, Experts { gate_up, down, unit }, routing);
            let found = experts::backward(&dy[layer], inputs, saved, gradients).unwrap();
            let d_logits = router::backward(&found.weights, routing, Some(&d_probabilities)).unwrap();
            dx += found.x + d_logits.matmul(gate);
            golden.check(&format!("d_{layer}.gate.weight"), &d_logits.tr().matmul(&x));
            golden.check(&format!("d_{layer}.experts.gate_up_proj"), &buffers[0]);
            golden.check(&format!("d_{layer}.experts.down_proj"), &buffers[1]);
        }
        golden.check("d_x", &dx);
    }
}
