use super::*;
use crate::basis::FindBases;
use crate::engine::Engine;
use crate::refresh_schedule::BasisAge;
use crate::{AdamConfig, GaLoreConfig, Parameter, ParameterGroup, SubspaceSolver, WeightUpdate};
use tch::{Device, Kind};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A way that fails at every gradient.
#[derive(Debug)]
struct Fails;

impl FindBases for Fails {
    fn name(&self) -> &'static str {
        "the test"
    }

    fn find(&self, _: &Tensor, _: &Tensor, _: &Wanted<'_>) -> Result<Bases, TchError> {
        Err(TchError::Torch("no luck".to_owned()))
    }
}

/// A way whose result is not orthonormal.
#[derive(Debug)]
struct Skewed;

impl FindBases for Skewed {
    fn name(&self) -> &'static str {
        "the test"
    }

    fn find(&self, gradients: &Tensor, _: &Tensor, wanted: &Wanted<'_>) -> Result<Bases, TchError> {
        let (b, _, cols) = gradients.size3()?;
        Ok(Bases { left: None, right: Some(Tensor::f_ones([b, wanted.rank, cols], FLOAT)?) })
    }
}

fn target(subspace: SubspaceSolver) -> ParameterState {
    let weight = Tensor::zeros([6, 4], FLOAT);
    let config = GaLoreConfig { rank: 2.into(), update_proj_gap: 3, subspace, ..GaLoreConfig::default() };
    let parameters = vec![Parameter::new("w", &weight).with_gradient(&weight.zeros_like())];
    let group = ParameterGroup::new(parameters, AdamConfig::galore_default()).with_galore(config);
    Engine::new(crate::adam::AdamFormula::GaLore, vec![group], WeightUpdate::Exact).unwrap().parameters.pop().unwrap()
}

fn gradient() -> Tensor {
    (Tensor::arange(24, FLOAT) * 1.7).sin().view([6, 4])
}

fn basis(state: &ParameterState) -> Option<Tensor> {
    state.projector.as_ref().unwrap().state().map(|(_, basis)| basis.copy()).next()
}

fn refresh(state: &mut ParameterState, gradient: &Tensor) {
    let mut scratches = Vec::new();
    state.refresh_if_due(gradient, Scratch::of(&mut scratches, Device::Cpu)).unwrap();
}

#[test]
fn a_way_that_fails_gives_way_to_singular_vectors() {
    let mut expected = target(SubspaceSolver::Svd);
    refresh(&mut expected, &gradient());
    for way in [&Fails as &'static dyn FindBases, &Skewed] {
        let mut state = target(SubspaceSolver::Svd);
        state.projector.as_mut().unwrap().use_way(way);
        refresh(&mut state, &gradient());
        let off = basis(&state).unwrap() - basis(&expected).unwrap();
        assert!(off.abs().max().double_value(&[]) < 1e-5, "{way:?}");
    }
}

#[test]
fn a_zero_gradient_keeps_the_basis_and_the_next_step_tries_again() {
    let mut state = target(SubspaceSolver::Eigenvectors);
    refresh(&mut state, &gradient());
    let first = basis(&state).unwrap();
    state.num_steps = 3;
    refresh(&mut state, &gradient().zeros_like());
    assert_eq!(basis(&state).unwrap(), first);
    assert_eq!(state.projector.as_ref().unwrap().schedule.progress().basis, BasisAge::Overdue);
    state.num_steps = 4;
    refresh(&mut state, &gradient().square());
    assert_ne!(basis(&state).unwrap(), first);
    let second = basis(&state).unwrap();
    state.num_steps = 5;
    refresh(&mut state, &gradient());
    assert_eq!(basis(&state).unwrap(), second, "the plan goes on from where it was");
}

#[test]
fn a_target_without_a_basis_gets_one_from_its_first_gradient() {
    for subspace in [SubspaceSolver::Svd, SubspaceSolver::Eigenvectors, SubspaceSolver::Power, SubspaceSolver::Dct] {
        let (mut late, mut prompt) = (target(subspace), target(subspace));
        refresh(&mut late, &gradient().zeros_like());
        assert_eq!(basis(&late).unwrap().abs().max().double_value(&[]), 0.0);
        for state in [&mut late, &mut prompt] {
            state.num_steps = 1;
            refresh(state, &gradient());
        }
        assert_eq!(basis(&late), basis(&prompt), "{subspace}");
    }
}

#[test]
fn a_gradient_with_nan_gives_no_basis() {
    for subspace in [SubspaceSolver::Svd, SubspaceSolver::Eigenvectors, SubspaceSolver::Random] {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut state = target(subspace);
            let gradient = gradient();
            let _ = gradient.get(2).fill_(bad);
            let mut scratches = Vec::new();
            let result = state.refresh_if_due(&gradient, Scratch::of(&mut scratches, Device::Cpu));
            assert!(matches!(result.unwrap_err(), Error::NonFiniteGradient { name } if name == "w"), "{bad}");
            assert!(basis(&state).is_none());
            let _ = gradient.get(2).fill_(1.0);
        }
    }
}
