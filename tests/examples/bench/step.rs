//! Measures whole training steps: forward, backward, norm, clipping, update.

use crate::models;
use crate::table::{TIME, Work, check_close, head, line};
use anyhow::{Result, ensure};
use causal_lm::{CausalLm, Config, Recompute, TokenBatch};
use galore_optim::{
    AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, Optimizer, ParameterGroup, WeightUpdate, clip_gradients,
    global_gradient_norm,
};
use std::path::Path;
use tch::{Kind, Tensor};
use whole_program_tests::measure::Variant;

const ROWS: usize = 8;
const LENGTH: usize = 256;
/// Number of steps after which the loss must have fallen.
const STEPS: usize = 3;

#[derive(Clone, Copy, PartialEq)]
enum Optim {
    AdamW,
    GaLore,
}

pub fn run(demo: &Path) -> Result<()> {
    head(&format!(
        "training steps of {ROWS} rows of {LENGTH} tokens, bfloat16 weights with exact updates, computed in float32"
    ));
    let tokens = Work::thousand((ROWS * LENGTH) as f64, "k tokens/s");
    let config = Config::from_dir(&demo.join("model"))?;
    let demo_model = || models::of(config.clone(), Kind::BFloat16);
    let small_model = || models::qwen2_small(Kind::BFloat16);
    let cases: [(&str, &dyn Fn() -> Result<CausalLm>); 2] =
        [("demo", &demo_model), ("qwen2, width 256, 6 layers", &small_model)];
    for (name, make) in cases {
        check_recompute(make()?)?;
        let mut variants = Vec::new();
        for (variant, optim, recompute) in [
            ("AdamW", Optim::AdamW, Recompute::None),
            ("GaLore, r = 64", Optim::GaLore, Recompute::None),
            ("GaLore, blocks recomputed", Optim::GaLore, Recompute::Block),
        ] {
            let mut training = Training::new(make()?, optim, recompute)?;
            training.check_learning()?;
            variants.push(Variant::new(variant, move || training.step()));
        }
        line(name, tokens, variants, 4 * TIME)?;
    }
    Ok(())
}

/// Checks that recomputed activations are the same as the first time.
fn check_recompute(mut model: CausalLm) -> Result<()> {
    let batch = models::batch(&model, 2, 64)?;
    let mut gradients = Vec::new();
    for recompute in [Recompute::None, Recompute::Block] {
        model.set_recompute(recompute);
        model.parameters_mut().zero_gradients()?;
        model.forward_backward(&batch, 1.0)?;
        gradients.push(model.parameters_mut().flat_gradients()?.copy());
    }
    check_close("gradients with blocks recomputed", &gradients[1], &gradients[0], 0.0)
}

struct Training {
    model: CausalLm,
    optimizer: Box<dyn Optimizer>,
    batch: TokenBatch,
}

impl Training {
    fn new(mut model: CausalLm, optim: Optim, recompute: Recompute) -> Result<Self> {
        model.set_recompute(recompute);
        let batch = models::batch(&model, ROWS, LENGTH)?;
        let (mut targets, mut others) = models::parameters(&mut model)?;
        ensure!(!targets.is_empty() && !others.is_empty(), "no targets, or nothing else");
        let optimizer: Box<dyn Optimizer> = match optim {
            Optim::AdamW => {
                others.append(&mut targets);
                let group = ParameterGroup::new(others, AdamConfig::torch_default());
                Box::new(AdamW::new(vec![group], WeightUpdate::Exact)?)
            }
            Optim::GaLore => {
                let group = |parameters| ParameterGroup::new(parameters, AdamConfig::galore_default());
                let galore = GaLoreConfig { rank: 64.into(), update_proj_gap: i64::MAX, ..GaLoreConfig::default() };
                Box::new(GaLoreAdamW::new(
                    vec![group(targets).with_galore(galore), group(others)],
                    WeightUpdate::Exact,
                )?)
            }
        };
        Ok(Self { model, optimizer, batch })
    }

    /// The mean loss before the step.
    fn step(&mut self) -> Result<f64> {
        let targets = self.batch.num_targets() as f64;
        let sums = self.model.forward_backward(&self.batch, 1.0 / targets)?;
        let gradients: Tensor = self.model.parameters_mut().flat_gradients()?;
        let norm = global_gradient_norm(&[&gradients])?;
        clip_gradients(&[gradients], 1.0, &norm)?;
        self.optimizer.step(1e-3)?;
        self.model.parameters_mut().zero_gradients()?;
        Ok(sums.loss.f_double_value(&[])? / targets)
    }

    fn check_learning(&mut self) -> Result<()> {
        let losses = (0..=STEPS).map(|_| self.step()).collect::<Result<Vec<f64>>>()?;
        let chance = (self.model.config().vocab_size as f64).ln();
        ensure!((losses[0] / chance - 1.0).abs() < 0.05, "a first loss of {}, where chance is {chance}", losses[0]);
        ensure!(losses[STEPS] < losses[0], "the loss does not fall: {losses:?}");
        Ok(())
    }
}
