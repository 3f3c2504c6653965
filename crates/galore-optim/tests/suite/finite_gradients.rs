//! Gradients that are not finite, at any step.

use crate::{bits_equal, group, parameter, random};
use galore_optim::{
    AdamConfig, AdamW, Error, GaLoreAdamW, GaLoreConfig, GradientCheck, MomentDtype, Optimizer, Parameter, WeightUpdate,
};
use tch::{Kind, Tensor};

struct Run {
    weights: Vec<Tensor>,
    gradients: Vec<Tensor>,
    optimizer: Box<dyn Optimizer>,
}

fn run(galore: bool, kind: Kind, moments: MomentDtype) -> Run {
    let weights: Vec<Tensor> = (0..2).map(|seed| random(&[8, 5], seed).to_kind(kind)).collect();
    let gradients: Vec<Tensor> = weights.iter().map(Tensor::zeros_like).collect();
    let adam = AdamConfig { moments, ..AdamConfig::galore_default() };
    let all = ["first", "second"].into_iter().zip(weights.iter().zip(&gradients));
    let parameters: Vec<Parameter> = all.map(|(name, (weight, gradient))| parameter(name, weight, gradient)).collect();
    let targets = group(parameters, adam);
    let config = GaLoreConfig { rank: 2.into(), update_proj_gap: 50, ..GaLoreConfig::default() };
    let optimizer: Box<dyn Optimizer> = match galore {
        true => Box::new(GaLoreAdamW::new(vec![targets.with_galore(config)], WeightUpdate::Exact).unwrap()),
        false => Box::new(AdamW::new(vec![targets], WeightUpdate::Exact).unwrap()),
    };
    Run { weights, gradients, optimizer }
}

impl Run {
    fn fill(&mut self, step: i64) {
        for (index, gradient) in (0..).zip(&mut self.gradients) {
            gradient.copy_(&random(&[8, 5], 10 * step + index));
        }
    }

    /// Weights and state.
    fn everything(&self) -> Vec<Tensor> {
        let state = self.optimizer.state().unwrap().into_iter().map(|(_, tensor)| tensor.copy());
        self.weights.iter().map(Tensor::copy).chain(state).collect()
    }
}

#[test]
fn a_bad_gradient_between_refreshes_is_named_and_changes_nothing() {
    for galore in [true, false] {
        for (kind, moments) in [(Kind::Float, MomentDtype::Float32), (Kind::BFloat16, MomentDtype::Bfloat16)] {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for first_step in [true, false] {
                    let mut run = run(galore, kind, moments);
                    if !first_step {
                        run.fill(0);
                        run.optimizer.step(0.01).unwrap();
                    }
                    let before = run.everything();
                    run.fill(1);
                    // In the second parameter: the first must not have been updated.
                    let _ = run.gradients[1].get(7).get(4).fill_(bad);
                    let error = run.optimizer.step(0.01).unwrap_err();
                    assert!(matches!(&error, Error::NonFiniteGradient { name } if name == "second"), "{error}");
                    assert!(error.to_string().contains("`second` holds NaN or infinity"), "{error}");
                    let after = run.everything();
                    assert!(before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| bits_equal(a, b)));
                    run.fill(1);
                    run.optimizer.step(0.01).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_caller_that_checks_the_gradients_can_turn_it_off() {
    let mut run = run(true, Kind::Float, MomentDtype::Float32);
    run.optimizer.check_gradients(GradientCheck::AtRefresh);
    run.fill(0);
    run.optimizer.step(0.01).unwrap();
    run.fill(1);
    let _ = run.gradients[1].get(7).get(4).fill_(f64::NAN);
    run.optimizer.step(0.01).unwrap();
    assert!(run.weights[1].isnan().any().int64_value(&[]) == 1);
    run.optimizer.check_gradients(GradientCheck::EveryStep);
    assert!(run.optimizer.step(0.01).is_err());
    // Huge gradients are finite, although their squares are not.
    let mut run = self::run(false, Kind::Float, MomentDtype::Float32);
    run.gradients.iter_mut().for_each(|gradient| drop(gradient.fill_(3e38)));
    run.optimizer.step(0.0).unwrap();
}
