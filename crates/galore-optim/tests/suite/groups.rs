//! Several groups of parameters, each with its own settings.

use crate::{bits_equal, group, parameter, random};
use galore_optim::{
    AdamConfig, AdamW, Error, GaLoreAdamW, GaLoreConfig, Optimizer, ParameterGroup, ProjectionType, RefreshTiming,
    WeightUpdate,
};
use tch::{Kind, Tensor};

const SHAPES: [[i64; 2]; 3] = [[10, 16], [16, 10], [12, 12]];
const STEPS: i64 = 9;

/// Weights with gradient buffers.
struct Tensors(Vec<(String, Tensor, Tensor)>);

impl Tensors {
    fn new(prefix: &str, seed: i64) -> Self {
        let tensor = |(index, shape): (i64, [i64; 2])| {
            let weight = random(&shape, seed + index).to_kind(Kind::BFloat16);
            (format!("{prefix}.{index}"), weight, Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu)))
        };
        Tensors((0..).zip(SHAPES).map(tensor).collect())
    }

    fn group(&self, adam: AdamConfig) -> ParameterGroup {
        group(self.0.iter().map(|(name, weight, gradient)| parameter(name, weight, gradient)).collect(), adam)
    }

    fn fill_gradients(&mut self, step: i64) {
        for (index, (_, _, gradient)) in (0..).zip(&mut self.0) {
            gradient.copy_(&random(&gradient.size(), 100 * step + index));
        }
    }
}

/// Settings that differ in all that a group can set.
fn settings() -> [(AdamConfig, Option<GaLoreConfig>); 3] {
    let narrow = GaLoreConfig { rank: 3.into(), update_proj_gap: 4, scale: 1.8.into(), ..GaLoreConfig::default() };
    let wide = GaLoreConfig {
        rank: 7.into(),
        update_proj_gap: 3,
        scale: 0.5.into(),
        proj_type: ProjectionType::Full,
        refresh: RefreshTiming::Staggered,
        ..GaLoreConfig::default()
    };
    let decayed = AdamConfig { weight_decay: 0.1, ..AdamConfig::galore_default() };
    [(AdamConfig::galore_default(), Some(narrow)), (decayed.clone(), Some(wide)), (decayed, None)]
}

#[test]
fn groups_in_one_optimizer_are_as_in_optimizers_of_their_own() {
    let with_settings = |tensors: &Tensors, (adam, galore)| ParameterGroup { galore, ..tensors.group(adam) };
    let fresh = || [("a", 0), ("b", 10), ("c", 20)].map(|(prefix, seed)| Tensors::new(prefix, seed));
    let (mut together, mut apart) = (fresh(), fresh());
    let groups = together.iter().zip(settings()).map(|(tensors, settings)| with_settings(tensors, settings));
    let mut one = GaLoreAdamW::new(groups.collect(), WeightUpdate::Exact).unwrap();
    let mut several: Vec<GaLoreAdamW> = (apart.iter().zip(settings()))
        .map(|(tensors, settings)| {
            GaLoreAdamW::new(vec![with_settings(tensors, settings)], WeightUpdate::Exact).unwrap()
        })
        .collect();
    for step in 0..STEPS {
        together.iter_mut().chain(&mut apart).for_each(|tensors| tensors.fill_gradients(step));
        one.step(0.01).unwrap();
        several.iter_mut().for_each(|optimizer| optimizer.step(0.01).unwrap());
        for ((name, ours, _), (_, wanted, _)) in together.iter().flat_map(|t| &t.0).zip(apart.iter().flat_map(|t| &t.0))
        {
            assert!(bits_equal(ours, wanted), "{name}, step {step}");
        }
    }
    let expected: Vec<(String, Tensor)> = several.iter().flat_map(|optimizer| optimizer.state().unwrap()).collect();
    let found = one.state().unwrap();
    assert_eq!(found.len(), expected.len());
    for ((name, ours), (wanted_name, wanted)) in found.iter().zip(&expected) {
        assert_eq!(name, wanted_name);
        assert!(bits_equal(ours, wanted), "{name}");
    }
    assert_eq!(found.iter().find(|(name, _)| name == "a.0.exp_avg").unwrap().1.size(), [3, 16]);
    assert_eq!(found.iter().find(|(name, _)| name == "b.0.exp_avg").unwrap().1.size(), [7, 7]);
}

#[test]
fn every_group_is_checked_and_adamw_takes_no_targets() {
    let (first, second) = (Tensors::new("a", 0), Tensors::new("b", 1));
    let good = || first.group(AdamConfig::galore_default()).with_galore(GaLoreConfig::default());
    let bad =
        second.group(AdamConfig::galore_default()).with_galore(GaLoreConfig { rank: 0.into(), ..Default::default() });
    let error = GaLoreAdamW::new(vec![good(), bad], WeightUpdate::Exact).unwrap_err();
    assert_eq!(error.to_string(), "rank = 0: must be at least 1");
    let error = GaLoreAdamW::new(vec![good(), good()], WeightUpdate::Exact).unwrap_err();
    assert!(matches!(&error, Error::DuplicateName { name } if name == "a.0"), "{error}");
    let error = AdamW::new(vec![second.group(AdamConfig::torch_default()), good()], WeightUpdate::Exact).unwrap_err();
    assert_eq!(error.to_string(), "galore of group 1: must be None, or the optimizer a GaLoreAdamW");
}
