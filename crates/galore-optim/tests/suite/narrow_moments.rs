//! Moments in bfloat16 and bases in float16, compared with those in float32.

use crate::{group, parameter, random};
use galore_optim::{
    AdamConfig, AdamW, GaLoreAdamW, GaLoreConfig, MomentDtype, Optimizer, ProjectionType, WeightUpdate,
};
use tch::{Kind, Tensor};

struct Outcome {
    /// What the steps changed.
    change: Tensor,
    second_moment: Tensor,
    kinds: Vec<(String, Kind)>,
}

fn run(moments: MomentDtype, galore: Option<ProjectionType>, steps: i64) -> Outcome {
    let start = random(&[40, 24], 0);
    let (weight, gradient) = (start.copy(), start.zeros_like());
    let adam = AdamConfig { moments, beta2: 0.999, ..AdamConfig::galore_default() };
    let targets = group(vec![parameter("w", &weight, &gradient)], adam);
    let mut optimizer: Box<dyn Optimizer> = match galore {
        None => Box::new(AdamW::new(vec![targets], WeightUpdate::Exact).unwrap()),
        Some(proj_type) => {
            let galore = GaLoreConfig {
                rank: 8.into(),
                update_proj_gap: 1000,
                scale: 1.0.into(),
                proj_type,
                ..GaLoreConfig::default()
            };
            Box::new(GaLoreAdamW::new(vec![targets.with_galore(galore)], WeightUpdate::Exact).unwrap())
        }
    };
    for step in 0..steps {
        let drawn = random(&[40, 24], 5) * 0.3 + random(&[40, 24], 100 + step);
        gradient.shallow_clone().copy_(&drawn);
        optimizer.step(1e-3).unwrap();
    }
    let state = optimizer.state().unwrap();
    let second_moment = state.iter().find(|(name, _)| name == "w.exp_avg_sq").unwrap().1.to_kind(Kind::Double);
    let kinds = state.iter().map(|(name, tensor)| (name.clone(), tensor.kind())).collect();
    Outcome { change: (weight - start).to_kind(Kind::Double), second_moment, kinds }
}

fn ratio(a: &Tensor, b: &Tensor) -> f64 {
    a.norm().double_value(&[]) / b.norm().double_value(&[])
}

#[test]
fn training_goes_where_it_goes_with_wide_ones() {
    for galore in [None, Some(ProjectionType::Std), Some(ProjectionType::Left), Some(ProjectionType::Full)] {
        let wide = run(MomentDtype::Float32, galore, 300);
        let narrow = run(MomentDtype::Bfloat16, galore, 300);
        let off = ratio(&(&narrow.change - &wide.change), &wide.change);
        // Each moment is off by at most 0.8 %, at random from step to step. The fewer there are,
        // the less this averages out.
        assert!(off > 0.0 && off < 0.02, "{galore:?}: {off}");
    }
}

#[test]
fn the_second_moment_keeps_growing() {
    // After 500 steps at 0.999 it holds 39 % of the mean of its gradients' squares. Rounded to
    // nearest, it would stop once a thousandth is less than half a unit.
    let (wide, narrow) = (run(MomentDtype::Float32, None, 500), run(MomentDtype::Bfloat16, None, 500));
    let mean = |outcome: &Outcome| outcome.second_moment.mean(Kind::Double).double_value(&[]);
    let off = (mean(&narrow) / mean(&wide) - 1.0).abs();
    assert!(off < 0.005, "{off}");
}

#[test]
fn state_has_half_the_width() {
    let kinds = run(MomentDtype::Bfloat16, Some(ProjectionType::Std), 1).kinds;
    for (name, kind) in [("exp_avg", Kind::BFloat16), ("exp_avg_sq", Kind::BFloat16), ("basis_right", Kind::Half)] {
        assert!(kinds.contains(&(format!("w.{name}"), kind)), "{kinds:?}");
    }
    let wide = run(MomentDtype::Float32, Some(ProjectionType::Std), 1).kinds;
    assert!(wide.iter().all(|(_, kind)| matches!(kind, Kind::Float | Kind::Int64)));
}
