//! Subspaces and basis changes against own equations in float64 and 60 steps of galore-torch:
//! goldens/make_subspaces.py.

use crate::{Golden, group, parameter, random, relative_difference};
use galore_optim::{
    AdamConfig, BasisChange, GaLoreAdamW, GaLoreConfig, Optimizer, ProjectionType, Scale, SubspaceSolver, WeightUpdate,
    parse_optim_args,
};
use tch::{Device, Kind, Tensor};

/// Weights after each step.
fn run(config: &GaLoreConfig, start: &Tensor, gradients: &Tensor) -> Tensor {
    let (weight, gradient) = (start.copy(), start.zeros_like());
    let targets = group(vec![parameter("w", &weight, &gradient)], AdamConfig::galore_default());
    let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(config.clone())], WeightUpdate::Exact).unwrap();
    let mut after = Vec::new();
    for step in 0..gradients.size()[0] {
        gradient.shallow_clone().copy_(&gradients.get(step));
        optimizer.step(0.01).unwrap();
        after.push(weight.copy());
    }
    Tensor::stack(&after, 0)
}

#[test]
fn subspaces_and_basis_changes_are_the_equations() {
    let golden = Golden::read("subspaces.safetensors");
    let mut cases = 0;
    for shape in ["tall", "wide"] {
        let (start, gradients) = (golden.get(&format!("{shape}.weight")), golden.get(&format!("{shape}.gradients")));
        for proj_type in ["std", "reverse_std", "full"] {
            for (subspace, moments, gap) in [
                ("svd", "transport", 4),
                ("svd", "reset", 4),
                ("power", "transport", 1),
                ("power", "reset", 3),
                ("dct", "transport", 3),
            ] {
                let case = format!("{shape}.{proj_type}.{subspace}.{moments}.gap{gap}");
                let also = if subspace == "svd" { vec!["svd", "eigenvectors"] } else { vec![subspace] };
                for subspace in also {
                    let args = format!(
                        "rank=3,scale=1.8,update_proj_gap={gap},proj_type={proj_type},subspace={subspace},moments={moments}"
                    );
                    let after = run(&parse_optim_args(&args).unwrap(), start, gradients);
                    let found = Tensor::stack(&[3, 7, 11].map(|step| after.get(step)), 0);
                    let difference = relative_difference(&found, golden.get(&case));
                    // At a refresh the two-sided projection of the gradient is diagonal. The
                    // elements off the diagonal are rounding, which Adam's ε of 1e-6 lets through
                    // to a thousandth of a step.
                    let bound = if proj_type == "full" { 2e-3 } else { 3e-4 };
                    assert!(difference < bound, "{case} by {subspace}: {difference:e}");
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 42);
}

#[test]
fn sixty_steps_are_those_of_galore_torch() {
    let golden = Golden::read("galore_long.safetensors");
    for shape in ["tall", "wide", "square"] {
        let (start, gradients) = (golden.get(&format!("{shape}.weight")), golden.get(&format!("{shape}.gradients")));
        let shorter = start.size().into_iter().min().unwrap();
        for proj_type in ["std", "reverse_std", "right", "left", "full"] {
            for rank in [2, shorter, 64] {
                let args = format!("rank={rank},scale=0.5,update_proj_gap=7,proj_type={proj_type}");
                let after = run(&parse_optim_args(&args).unwrap(), start, gradients);
                let found = Tensor::stack(&[19, 39, 59].map(|step| after.get(step)), 0);
                let difference = relative_difference(&found, golden.get(&format!("{shape}.{proj_type}.rank{rank}")));
                // As above. One processor's rounding, that of the golden, gives less than 1e-5.
                let bound = if proj_type == "full" { 2e-3 } else { 1e-5 };
                assert!(difference < bound, "{shape}.{proj_type}.rank{rank}: {difference:e}");
            }
        }
    }
}

/// Carried moments do not depend on the axes, so at full rank a change of the basis changes nothing
/// but them: the first moment in the space of the gradient stays what it was.
#[test]
fn transport_keeps_the_first_moment_at_full_rank() {
    let (start, gradients) = (random(&[8, 5], 1), Tensor::stack(&[0, 1, 2, 3, 4].map(|i| random(&[8, 5], 10 + i)), 0));
    let config = GaLoreConfig {
        rank: 5.into(),
        update_proj_gap: 2,
        moments: BasisChange::Transport,
        subspace: SubspaceSolver::Eigenvectors,
        ..GaLoreConfig::default()
    };
    let (weight, gradient) = (start.copy(), start.zeros_like());
    let targets = group(vec![parameter("w", &weight, &gradient)], AdamConfig::galore_default());
    let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(config)], WeightUpdate::Exact).unwrap();
    let mut expected = start.zeros_like();
    for step in 0..5 {
        gradient.shallow_clone().copy_(&gradients.get(step));
        optimizer.step(0.01).unwrap();
        expected = expected * 0.9 + gradients.get(step) * 0.1;
        let state = optimizer.state().unwrap();
        let find = |suffix: &str| &state.iter().find(|(name, _)| name == suffix).unwrap().1;
        let found = find("w.exp_avg").matmul(find("w.basis_right"));
        assert!(relative_difference(&found, &expected) < 1e-5, "step {step}");
    }
}

#[test]
fn an_automatic_scale_is_that_of_the_rank() {
    let gradients = Tensor::stack(&[0, 1, 2].map(|i| random(&[16, 9], 10 + i)), 0);
    let with = |scale| {
        let config = GaLoreConfig { rank: 4.into(), scale, ..GaLoreConfig::default() };
        run(&config, &random(&[16, 9], 1), &gradients)
    };
    assert_eq!(with(Scale::Auto), with(Scale::Factor(1.5)));
    let fraction = parse_optim_args("rank=0.4, scale=1.5").unwrap();
    assert_eq!(run(&fraction, &random(&[16, 9], 1), &gradients), with(Scale::Auto), "0.4 of 9 is 4, rounded up");
}

#[test]
fn a_lazy_target_is_refreshed_less_often_while_its_subspace_stays() {
    let refreshes = |lazy_refresh, changing: bool| {
        let start = random(&[8, 5], 1);
        let (weight, gradient) = (start.copy(), random(&[8, 5], 2));
        let config = GaLoreConfig {
            rank: 2.into(),
            update_proj_gap: 2,
            lazy_refresh,
            subspace: SubspaceSolver::Eigenvectors,
            ..GaLoreConfig::default()
        };
        let targets = group(vec![parameter("w", &weight, &gradient)], AdamConfig::galore_default());
        let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(config)], WeightUpdate::Exact).unwrap();
        let mut count = 0;
        let mut before = std::time::Duration::ZERO;
        for step in 0..40 {
            if changing {
                // One column at a time, so that the first vectors are orthogonal.
                let mut gradient = gradient.shallow_clone();
                let _ = gradient.fill_(1e-3);
                let _ = gradient.select(1, (step / 2) % 5).fill_(1.0);
            }
            optimizer.step(1e-4).unwrap();
            let now = optimizer.subspace_refresh_time();
            count += i64::from(now > before);
            before = now;
        }
        count
    };
    assert_eq!(refreshes(false, false), 20);
    // At 0, 2, 4, 6, 8 and 10, when five cosines are known; then at 14, 22, 38.
    assert_eq!(refreshes(true, false), 9);
    assert_eq!(refreshes(true, true), 20);
}

#[test]
fn a_random_subspace_is_drawn_again_at_each_refresh() {
    let bases = |seed, name: &str| {
        let (weight, gradient) = (random(&[8, 5], 1), random(&[8, 5], 2));
        let config = GaLoreConfig {
            rank: 2.into(),
            update_proj_gap: 2,
            subspace: SubspaceSolver::Random,
            seed,
            ..GaLoreConfig::default()
        };
        let targets = group(vec![parameter(name, &weight, &gradient)], AdamConfig::galore_default());
        let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(config)], WeightUpdate::Exact).unwrap();
        let mut bases = Vec::new();
        for _ in 0..4 {
            optimizer.step(1e-4).unwrap();
            let state = optimizer.state().unwrap();
            bases.push(state.iter().find(|(name, _)| name.ends_with("basis_right")).unwrap().1.copy());
        }
        bases
    };
    let first = bases(0, "w");
    assert!(first[0] == first[1] && first[1] != first[2] && first[2] == first[3]);
    assert!(first == bases(0, "w") && first[0] != bases(1, "w")[0] && first[0] != bases(0, "x")[0]);
}

#[test]
fn every_solver_trains_on_odd_gradients() {
    for subspace in ["svd", "eigh", "power", "dct", "random"] {
        for moments in ["keep", "transport", "reset"] {
            for kind in [Kind::Float, Kind::BFloat16] {
                let weight = random(&[9, 6], 1).to_kind(kind);
                let gradient = Tensor::zeros([9, 6], (kind, Device::Cpu));
                let args = format!("rank=3,scale=auto,update_proj_gap=2,subspace={subspace},moments={moments}");
                let config = GaLoreConfig { proj_type: ProjectionType::Full, ..parse_optim_args(&args).unwrap() };
                let targets = group(vec![parameter("w", &weight, &gradient)], AdamConfig::galore_default());
                let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(config)], WeightUpdate::Exact).unwrap();
                for (step, size) in [0.0, 0.0, 1.0, 1e-30, 0.0, 1e15, 1.0, 0.0, 1e-30, 1.0].into_iter().enumerate() {
                    gradient.shallow_clone().copy_(&(random(&[9, 6], step as i64) * size));
                    let before = weight.copy();
                    optimizer.step(0.01).unwrap();
                    let finite = weight.isfinite().all().int64_value(&[]) == 1;
                    assert!(finite, "{subspace} {moments} {kind:?}, step {step}");
                    let moved = weight != before;
                    // The basis comes from the first gradient, at step 2. Tiny ones may move
                    // nothing.
                    assert!(
                        if step < 2 { !moved } else { moved || size < 1.0 },
                        "{subspace} {moments} {kind:?}, step {step}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_basis_of_few_bits_trains_as_a_wide_one_and_takes_its_memory() {
    let gradients =
        Tensor::stack(&(0..40).map(|i| random(&[64, 48], 10 + i) + random(&[64, 48], 5) * 0.5).collect::<Vec<_>>(), 0);
    let start = random(&[64, 48], 1);
    // The two-sided projection of the first gradient is diagonal. What the codes put beside the
    // diagonal is small, and Adam enlarges it.
    for (proj_type, most) in [("std", [0.03, 0.4]), ("full", [0.15, 0.8])] {
        let change = |basis: &str| {
            let args = format!("rank=16, scale=1.0, update_proj_gap=100, proj_type={proj_type}, basis={basis}");
            (run(&parse_optim_args(&args).unwrap(), &start, &gradients).get(39) - &start).to_kind(Kind::Double)
        };
        let wide = change("auto");
        let off = |basis| ((change(basis) - &wide).norm() / wide.norm()).double_value(&[]);
        let (eight, four) = (off("8bit"), off("4bit"));
        assert!(eight > 0.0 && eight < most[0], "{proj_type}: {eight}");
        assert!(four > eight && four < most[1], "{proj_type}: {four}");
    }
    let bytes = |basis: &str| {
        let (weight, gradient) = (random(&[640, 512], 1), random(&[640, 512], 2));
        let config = parse_optim_args(&format!("rank=64, basis={basis}")).unwrap();
        let targets = group(vec![parameter("w", &weight, &gradient)], AdamConfig::galore_default());
        let mut optimizer = GaLoreAdamW::new(vec![targets.with_galore(config)], WeightUpdate::Exact).unwrap();
        optimizer.step(0.1).unwrap();
        let state = optimizer.state().unwrap();
        let basis = state.iter().filter(|(name, _)| name.contains("basis"));
        let found: usize = basis.map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
        let total: usize = state.iter().map(|(_, tensor)| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
        assert_eq!(optimizer.state_bytes(), total as u64);
        found
    };
    let elements = 64 * 512;
    assert_eq!(
        (bytes("auto"), bytes("8bit"), bytes("4bit")),
        (4 * elements, elements + elements / 32, elements / 2 + elements / 32)
    );
}
