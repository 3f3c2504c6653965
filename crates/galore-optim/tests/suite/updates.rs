//! Adafactor, APOLLO and Fira.

use crate::{Golden, bits_equal, group, parameter, random, relative_difference, set_gradients};
use galore_optim::{
    Adafactor, AdamConfig, AdamW, AdamW8bit, Apollo, ApolloScaling, Error, GaLoreAdamW, GaLoreConfig, MomentDtype,
    Optimizer, ParameterGroup, SubspaceSolver, WeightUpdate,
};
use tch::{Device, Kind, Tensor};

const EXACT: WeightUpdate = WeightUpdate::Exact;

fn adam(weight_decay: f64) -> AdamConfig {
    AdamConfig { weight_decay, ..AdamConfig::torch_default() }
}

fn svd(rank: i64, scale: f64, update_proj_gap: i64) -> GaLoreConfig {
    let (rank, scale) = (rank.into(), scale.into());
    GaLoreConfig { rank, scale, update_proj_gap, subspace: SubspaceSolver::Svd, ..GaLoreConfig::default() }
}

/// Sixty steps, compared after the first, the fifth and the last.
fn follows(shape: &str, case: &str, make: impl Fn(ParameterGroup) -> Box<dyn Optimizer>, adam: AdamConfig) {
    let golden = Golden::read("updates.safetensors");
    let weight = golden.get(&format!("{shape}.weight")).copy();
    let mut gradient = weight.zeros_like();
    let mut optimizer = make(group(vec![parameter("w", &weight, &gradient)], adam));
    let gradients = golden.get(&format!("{shape}.gradients"));
    let expected = golden.get(&format!("{shape}.{case}"));
    for step in 0..gradients.size()[0] {
        gradient.copy_(&gradients.get(step));
        optimizer.step(0.01 * ((step + 1) as f64 / 3.0).min(1.0)).unwrap();
        let Some(row) = [0, 4, 59].iter().position(|&kept| kept == step) else { continue };
        let difference = relative_difference(&weight, &expected.get(row as i64));
        assert!(difference < 2e-5, "{shape}.{case}, step {step}: {difference}");
    }
}

#[test]
fn adafactor_is_that_of_transformers() {
    for shape in ["tall", "wide", "vector", "cube"] {
        for decay in [0.0, 0.1] {
            let case = format!("adafactor.{decay:?}");
            follows(shape, &case, |group| Box::new(Adafactor::new(vec![group], EXACT).unwrap()), adam(decay));
        }
    }
}

#[test]
fn projected_adafactor_is_that_of_galore_torch() {
    for shape in ["tall", "wide"] {
        let make = |group: ParameterGroup| -> Box<dyn Optimizer> {
            Box::new(Adafactor::new(vec![group.with_galore(svd(3, 1.8, 25))], EXACT).unwrap())
        };
        follows(shape, "galore_adafactor", make, adam(0.1));
    }
}

#[test]
fn apollo_and_fira_follow_their_equations() {
    for shape in ["tall", "wide"] {
        for (case, scaling, rank, scale) in
            [("apollo", ApolloScaling::Channel, 3, 1.0), ("mini", ApolloScaling::Tensor, 1, 128.0)]
        {
            let make = |group: ParameterGroup| -> Box<dyn Optimizer> {
                Box::new(Apollo::new(vec![group.with_galore(svd(rank, scale, 1000))], scaling, EXACT).unwrap())
            };
            follows(shape, case, make, adam(0.1));
        }
        let make = |group: ParameterGroup| -> Box<dyn Optimizer> {
            let galore = GaLoreConfig { fira: true, ..svd(3, 0.25, 1000) };
            Box::new(GaLoreAdamW::new(vec![group.with_galore(galore)], EXACT).unwrap())
        };
        follows(shape, "fira", make, AdamConfig { weight_decay: 0.1, ..AdamConfig::galore_default() });
    }
}

#[test]
fn settings_that_an_update_cannot_use_are_refused() {
    let weight = random(&[8, 6], 1);
    let one = |adam: AdamConfig| group(vec![parameter("w", &weight, &weight)], adam);
    let narrow = AdamConfig { moments: MomentDtype::Compact, ..adam(0.0) };
    let error = Adafactor::new(vec![one(narrow)], EXACT).unwrap_err().to_string();
    assert!(error.contains("moments = compact"), "{error}");
    let power = GaLoreConfig { subspace: SubspaceSolver::Power, ..GaLoreConfig::default() };
    assert!(matches!(Adafactor::new(vec![one(adam(0.0)).with_galore(power)], EXACT), Err(Error::Config { .. })));
    let fira = GaLoreConfig { fira: true, ..GaLoreConfig::default() };
    let error = Apollo::new(vec![one(adam(0.0)).with_galore(fira)], ApolloScaling::Channel, EXACT).unwrap_err();
    assert!(error.to_string().contains("fira = true"), "{error}");
}

type Make = fn(Vec<ParameterGroup>, WeightUpdate) -> Result<Box<dyn Optimizer>, Error>;

const MAKERS: [(&str, Make); 6] = [
    ("adamw", |groups, update| Ok(Box::new(AdamW::new(groups, update)?))),
    ("galore", |groups, update| Ok(Box::new(GaLoreAdamW::new(groups, update)?))),
    ("8bit", |groups, update| Ok(Box::new(AdamW8bit::new(groups, update)?))),
    ("adafactor", |groups, update| Ok(Box::new(Adafactor::new(groups, update)?))),
    ("apollo", |groups, update| Ok(Box::new(Apollo::new(groups, ApolloScaling::Channel, update)?))),
    ("mini", |groups, update| Ok(Box::new(Apollo::new(groups, ApolloScaling::Tensor, update)?))),
];

/// A target of more than 4096 elements in its subspace, a stack of experts, and a vector.
struct Model {
    weights: Vec<Tensor>,
    gradients: Vec<Tensor>,
    optimizer: Box<dyn Optimizer>,
}

impl Model {
    fn new(make: Make, adam: &AdamConfig, galore: Option<&GaLoreConfig>, kind: Kind, start: &[Tensor]) -> Self {
        let weights: Vec<Tensor> = start.iter().map(Tensor::copy).collect();
        let gradients: Vec<Tensor> =
            weights.iter().map(|weight| Tensor::zeros(weight.size(), (Kind::Float, Device::Cpu))).collect();
        let part = |indices: [usize; 2]| {
            let parameters = indices.map(|i| parameter(&format!("w{i}"), &weights[i], &gradients[i]));
            group(parameters.into_iter().collect(), adam.clone())
        };
        let targets = part([0, 1]);
        let targets = if let Some(galore) = galore { targets.with_galore(galore.clone()) } else { targets };
        let update = if kind == Kind::Float { EXACT } else { WeightUpdate::Stochastic { seed: 3 } };
        let optimizer = make(vec![targets, part([2, 3])], update).unwrap();
        Model { weights, gradients, optimizer }
    }

    fn train(&mut self, steps: std::ops::Range<i64>) {
        for step in steps {
            set_gradients(&mut self.gradients, step);
            self.optimizer.step(1e-3).unwrap();
        }
    }
}

#[test]
fn every_combination_goes_on_bit_for_bit_and_refuses_a_bad_gradient() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let shapes: [&[i64]; 4] = [&[600, 24], &[2, 10, 6], &[70, 70], &[9]];
    let mut combinations = 0;
    for (name, make) in MAKERS {
        for moments in [MomentDtype::Float32, MomentDtype::Bfloat16, MomentDtype::Blockwise8bit, MomentDtype::Compact] {
            for galore in [None, Some((8, false)), Some((8, true))] {
                let is_refused = match (name, moments, galore) {
                    ("adamw", _, Some(_)) => true,
                    ("adafactor", MomentDtype::Float32, Some((_, true))) => true,
                    ("adafactor", moments, _) => moments != MomentDtype::Float32,
                    ("apollo" | "mini", _, Some((_, true))) => true,
                    _ => false,
                };
                let galore = galore.map(|(rank, fira)| GaLoreConfig { fira, ..svd(rank, 1.0, 4) });
                let adam = AdamConfig { moments, ..adam(0.01) };
                if is_refused {
                    let weight = random(&[8, 6], 1);
                    let groups = group(vec![parameter("w", &weight, &weight)], adam);
                    let groups = if let Some(galore) = galore { groups.with_galore(galore) } else { groups };
                    assert!(matches!(make(vec![groups], EXACT), Err(Error::Config { .. })), "{name}");
                    continue;
                }
                combinations += 1;
                for kind in [Kind::Float, Kind::BFloat16] {
                    let case = format!("{name}, {moments}, {galore:?}, {kind:?}");
                    let start: Vec<Tensor> =
                        shapes.iter().enumerate().map(|(i, shape)| random(shape, i as i64).to_kind(kind)).collect();
                    let mut whole = Model::new(make, &adam, galore.as_ref(), kind, &start);
                    whole.train(0..3);
                    whole.optimizer.save(&path).unwrap();
                    let mut resumed = Model::new(make, &adam, galore.as_ref(), kind, &whole.weights);
                    resumed.optimizer.load(&path).unwrap();
                    whole.train(3..7);
                    resumed.train(3..7);
                    let mut kept = Vec::new();
                    let states = [whole.optimizer.state().unwrap(), resumed.optimizer.state().unwrap()];
                    for ((name, a), (_, b)) in states[0].iter().zip(&states[1]) {
                        assert!(bits_equal(a, b), "{case}: {name}");
                        assert!(!matches!(a.kind(), Kind::Float) || a.isfinite().all().int64_value(&[]) == 1, "{case}");
                        kept.push(a.copy());
                    }
                    for (i, (a, b)) in whole.weights.iter().zip(&resumed.weights).enumerate() {
                        assert!(bits_equal(a, b), "{case}: w{i}");
                        assert!(!bits_equal(a, &start[i]), "{case}: w{i} never moved");
                    }
                    let before: Vec<Tensor> = whole.weights.iter().map(Tensor::copy).collect();
                    let _ = whole.gradients[3].get(4).fill_(f64::NAN);
                    let error = whole.optimizer.step(1e-3).unwrap_err();
                    assert!(matches!(&error, Error::NonFiniteGradient { name } if name == "w3"), "{case}: {error}");
                    for (a, b) in whole.weights.iter().zip(&before) {
                        assert!(bits_equal(a, b), "{case}");
                    }
                    for ((_, a), b) in whole.optimizer.state().unwrap().iter().zip(&kept) {
                        assert!(bits_equal(a, b), "{case}");
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 4 + 4 * 3 * 2 + 2 + 4 * 2 * 2);
}
