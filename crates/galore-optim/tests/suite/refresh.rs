//! On which steps subspaces are refreshed, and how.

use crate::{bits_equal, group, parameter, random};
use galore_optim::{AdamConfig, GaLoreAdamW, GaLoreConfig, Optimizer, RefreshTiming, SubspaceSolver, WeightUpdate};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tch::{Kind, Tensor};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const GAP: i64 = 10;
const SHAPES: [[i64; 2]; 5] = [[6, 9], [6, 9], [6, 9], [12, 5], [12, 5]];

struct Run {
    weights: Vec<Tensor>,
    gradients: Vec<Tensor>,
    optimizer: GaLoreAdamW,
}

impl Run {
    fn new(config: &GaLoreConfig, weights: Vec<Tensor>) -> Self {
        let gradients: Vec<Tensor> = weights.iter().map(|weight| weight.zeros_like().to_kind(Kind::Float)).collect();
        let targets = weights.iter().zip(&gradients).enumerate();
        let targets = targets.map(|(i, (weight, gradient))| parameter(&i.to_string(), weight, gradient)).collect();
        let targets = group(targets, AdamConfig::galore_default()).with_galore(config.clone());
        let optimizer = GaLoreAdamW::new(vec![targets], WeightUpdate::Exact).unwrap();
        Run { weights, gradients, optimizer }
    }

    fn fresh(config: &GaLoreConfig) -> Self {
        Self::new(config, (0..).zip(SHAPES).map(|(i, shape)| random(&shape, i).to_kind(Kind::BFloat16)).collect())
    }

    /// Takes a step. Returns the targets whose basis changed.
    fn step(&mut self, step: i64) -> Vec<usize> {
        let before = self.bases();
        for (i, gradient) in (0..).zip(&mut self.gradients) {
            gradient.copy_(&random(&gradient.size(), 100 + 7 * step + i));
        }
        self.optimizer.step(1e-2).unwrap();
        let after = self.bases();
        let is_new = |i: &usize| before.get(i).is_none_or(|before| !bits_equal(before, &after[i]));
        (0..SHAPES.len()).filter(is_new).collect()
    }

    fn bases(&self) -> HashMap<usize, Tensor> {
        let index = |name: &str| name.split_once(".basis").map(|(index, _)| index.parse().unwrap());
        let state = self.optimizer.state().unwrap().into_iter();
        state.filter_map(|(name, tensor)| Some((index(&name)?, tensor.copy()))).collect()
    }
}

fn config(refresh: RefreshTiming) -> GaLoreConfig {
    GaLoreConfig { rank: 3.into(), update_proj_gap: GAP, scale: 1.0.into(), refresh, ..GaLoreConfig::default() }
}

#[test]
fn every_target_is_refreshed_once_a_gap() {
    let refreshes = |timing| -> Vec<Vec<usize>> {
        let mut run = Run::fresh(&config(timing));
        (0..=3 * GAP).map(|step| run.step(step)).collect()
    };
    let everyone: Vec<usize> = (0..SHAPES.len()).collect();
    for (step, refreshed) in (0..).zip(refreshes(RefreshTiming::Together)) {
        assert_eq!(refreshed, if step % GAP == 0 { everyone.clone() } else { vec![] }, "step {step}");
    }
    let staggered = refreshes(RefreshTiming::Staggered);
    assert_eq!(staggered[0], everyone, "a target needs a subspace for its first step");
    for window in staggered[1..].chunks(GAP as usize) {
        assert_eq!(window.iter().flatten().copied().collect::<Vec<_>>(), everyone, "{window:?}");
        assert!(window.iter().all(|refreshed| refreshed.len() <= 1), "{window:?}");
    }
    assert_eq!((&staggered[2], &staggered[4]), (&vec![0], &vec![1]));
}

#[test]
fn a_staggered_run_goes_on_bit_for_bit_from_any_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let config = config(RefreshTiming::Staggered);
    let mut straight = Run::fresh(&config);
    let mut refreshed = Vec::new();
    let mut kept = Vec::new();
    for step in 0..2 * GAP {
        straight.optimizer.save(&file).unwrap();
        kept.push((straight.weights.iter().map(Tensor::copy).collect::<Vec<_>>(), std::fs::read(&file).unwrap()));
        refreshed.push(straight.step(step));
    }
    for (stop, (weights, state)) in (0..).zip(kept) {
        std::fs::write(&file, state).unwrap();
        let mut resumed = Run::new(&config, weights);
        resumed.optimizer.load(&file).unwrap();
        for step in stop..2 * GAP {
            assert_eq!(resumed.step(step), refreshed[step as usize], "stopped at {stop}, step {step}");
        }
        for (ours, wanted) in resumed.weights.iter().zip(&straight.weights) {
            assert!(bits_equal(ours, wanted), "stopped at {stop}");
        }
    }
}

#[test]
fn one_target_is_refreshed_as_if_not_staggered() {
    let weights = || vec![random(&[8, 12], 3)];
    let [mut together, mut staggered] =
        [RefreshTiming::Together, RefreshTiming::Staggered].map(|timing| Run::new(&config(timing), weights()));
    for step in 0..2 * GAP {
        for run in [&mut together, &mut staggered] {
            run.gradients[0].copy_(&random(&[8, 12], step));
            run.optimizer.step(1e-2).unwrap();
        }
        assert!(bits_equal(&together.weights[0], &staggered.weights[0]), "step {step}");
    }
}

#[test]
fn solvers_hold_the_same_energy_and_auto_is_the_devices_own() {
    let after = |solver| {
        let mut run = Run::fresh(&GaLoreConfig { subspace: solver, ..config(RefreshTiming::Together) });
        run.step(0);
        run
    };
    let [auto, svd, eigen] = [SubspaceSolver::Auto, SubspaceSolver::Svd, SubspaceSolver::Eigenvectors].map(after);
    let (by_auto, by_svd, by_eigen) = (auto.bases(), svd.bases(), eigen.bases());
    for (target, [rows, cols]) in SHAPES.into_iter().enumerate() {
        assert!(bits_equal(&by_auto[&target], &by_svd[&target]), "the CPU's own is the SVD");
        assert!(!bits_equal(&by_auto[&target], &by_eigen[&target]), "the solver makes no difference");
        let gradient = &svd.gradients[target];
        let energy = |basis: &Tensor| {
            let projected = if rows < cols { basis.tr().matmul(gradient) } else { gradient.matmul(&basis.tr()) };
            projected.square().sum(Kind::Double).double_value(&[])
        };
        let ratio = energy(&by_eigen[&target]) / energy(&by_svd[&target]);
        assert!((0.999..1.0001).contains(&ratio), "{target}: {ratio}");
    }
}

#[test]
fn settings_are_written_where_they_are_not_the_default() {
    let plain = serde_json::to_string(&GaLoreConfig::default()).unwrap();
    assert!(!plain.contains("refresh") && !plain.contains("subspace"), "{plain}");
    let config = GaLoreConfig { subspace: SubspaceSolver::Svd, ..config(RefreshTiming::Staggered) };
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""refresh":"staggered","subspace":"svd""#), "{text}");
    assert_eq!(serde_json::from_str::<GaLoreConfig>(&text).unwrap(), config);
    assert!(serde_json::from_str::<GaLoreConfig>(r#"{"refresh":"sometimes"}"#).is_err());
}

/// Collects the number of matrices of each refresh.
#[derive(Clone, Default)]
struct Refreshes(Arc<Mutex<Vec<i64>>>);

impl Subscriber for Refreshes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.name() == "refresh"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        struct Matrices<'a>(&'a Refreshes);
        impl Visit for Matrices<'_> {
            fn record_i64(&mut self, field: &Field, value: i64) {
                if field.name() == "matrices" {
                    self.0.0.lock().unwrap().push(value);
                }
            }

            fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
        }
        span.record(&mut Matrices(self));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn every_refresh_is_a_span() {
    let mut run = Run::fresh(&config(RefreshTiming::Together));
    let refreshes = Refreshes::default();
    tracing::subscriber::with_default(refreshes.clone(), || {
        for step in 0..GAP {
            run.step(step);
        }
    });
    assert_eq!(refreshes.0.lock().unwrap().iter().sum::<i64>(), SHAPES.len() as i64);
}
