//! One step of one parameter, projected or not.

use crate::adam::{AdamStep, Flavour};
use crate::error::OnParameter;
use crate::in_place::InPlace;
use crate::master::MasterWeight;
use crate::moments::Moments;
use crate::projector::{Basis, Projector};
use crate::scratch::{Scratch, Slot};
use crate::{AdamConfig, Error, Parameter, WeightUpdate, fused};
use std::time::{Duration, Instant};
use tch::{Kind, TchError, Tensor};

/// A parameter and all that is remembered of it.
#[derive(Debug)]
pub(crate) struct ParameterState {
    pub(crate) parameter: Parameter,
    pub(crate) adam: AdamConfig,
    pub(crate) master: MasterWeight,
    /// Steps taken. A parameter without a gradient takes none.
    pub(crate) num_steps: i64,
    pub(crate) moments: Moments,
    pub(crate) projector: Option<Projector>,
}

impl ParameterState {
    pub(crate) fn new(
        parameter: Parameter,
        adam: &AdamConfig,
        projector: Option<Projector>,
        update: WeightUpdate,
    ) -> Result<Self, Error> {
        let master = MasterWeight::new(&parameter, update)?;
        let numel = projector.as_ref().map_or(master.numel(), |projector| projector.low_rank_shape().iter().product());
        let moments = Moments::zeros(&parameter.name, numel, adam.moments, parameter.weight.device())?;
        Ok(ParameterState { parameter, adam: adam.clone(), master, num_steps: 0, moments, projector })
    }

    /// Takes the step, if there is a gradient; returns the time of a decomposition.
    pub(crate) fn step(
        &mut self,
        flavour: Flavour,
        learning_rate: f64,
        scratches: &mut Vec<Scratch>,
    ) -> Result<Duration, Error> {
        let Some(gradient) = self.parameter.current_gradient()? else {
            return Ok(Duration::ZERO);
        };
        let scratch = Scratch::of(scratches, self.parameter.weight.device());
        let adam = AdamStep::new(flavour, &self.adam, learning_rate, self.num_steps + 1);
        let refresh_time = match self.projector.take() {
            None => {
                self.full_update(&gradient, &adam, scratch).on(&self.parameter.name, "the update")?;
                Duration::ZERO
            }
            Some(mut projector) => {
                let refreshed = self.projected_step(&gradient, &mut projector, &adam, scratch);
                self.projector = Some(projector);
                refreshed?
            }
        };
        self.num_steps += 1;
        Ok(refresh_time)
    }

    fn full_update(&mut self, gradient: &Tensor, adam: &AdamStep, scratch: &mut Scratch) -> Result<(), TchError> {
        let gradient = gradient.f_view([-1])?;
        if let Some((weight, storage)) = self.master.for_kernel(self.num_steps).filter(|_| fused::takes(&[&gradient])) {
            let key = self.moments.key(self.num_steps);
            let moments = (&mut self.moments.first, &mut self.moments.second);
            return fused::update(weight, storage, &gradient, moments, key, adam);
        }
        for range @ (start, length) in scratch.chunks(self.master.numel()) {
            let gradient = scratch.widened(Slot::Gradient, &gradient.f_narrow(0, start, length)?)?;
            let (mut first, mut second) = self.moments.begin(range, scratch)?;
            let mut denominator = scratch.floats(Slot::WorkA, length)?;
            let scaled = scratch.floats(Slot::WorkB, length)?;

            adam.advance(&gradient, &mut first, &mut second, &mut denominator)?;
            adam.denominator(&second, &mut denominator)?;
            first.f_mul_scalar_out(&scaled, -adam.step_size).done()?;
            let mut master = self.master.begin(range, scratch)?;
            decay(&mut master, adam.decay_before)?;
            master.f_addcdiv_(&scaled, &denominator).done()?;
            decay(&mut master, adam.decay_after)?;
            self.master.finish(range, &master, self.num_steps, scratch)?;
            self.moments.finish(range, [&first, &second], self.num_steps, scratch)?;
        }
        Ok(())
    }

    fn projected_step(
        &mut self,
        gradient: &Tensor,
        projector: &mut Projector,
        adam: &AdamStep,
        scratch: &mut Scratch,
    ) -> Result<Duration, Error> {
        let name = &self.parameter.name;
        let gradient = scratch.widened(Slot::Gradient, gradient).on(name, "reading the gradient")?;
        let refresh_time = refresh_if_due(name, self.num_steps, &gradient, projector)?;
        self.projected_update(&gradient, projector, adam, scratch).on(&self.parameter.name, "the update")?;
        Ok(refresh_time)
    }

    /// Adam in the subspace, with `R = P G` for the gradient and `G̃ = α Pᵀ N` for the step.
    fn projected_update(
        &mut self,
        gradient: &Tensor,
        projector: &Projector,
        adam: &AdamStep,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let _tf32 = fused::allow_tf32(gradient)?;
        let low_rank = projector.project(gradient, scratch)?;
        let mut flat = low_rank.f_view([-1])?;
        let in_kernel = fused::takes(&[&flat]);
        if in_kernel {
            let key = self.moments.key(self.num_steps);
            let moments = (&mut self.moments.first, &mut self.moments.second);
            fused::direction(&mut flat, moments, key, adam, projector.scale)?;
        }
        for (start, length) in scratch.chunks(flat.numel() as i64).filter(|_| !in_kernel) {
            let mut range = flat.f_narrow(0, start, length)?;
            let (mut first, mut second) = self.moments.begin((start, length), scratch)?;
            let mut work = scratch.floats(Slot::WorkA, length)?;
            adam.advance(&range, &mut first, &mut second, &mut work)?;
            adam.denominator(&second, &mut work)?;
            first.f_div_out(&range, &work).done()?;
            // Scaled here, where it is smallest; the multiplication back then adds straight to the
            // weight.
            range.f_mul_scalar_(-adam.step_size * projector.scale).done()?;
            self.moments.finish((start, length), [&first, &second], self.num_steps, scratch)?;
        }
        let whole = (0, self.master.numel());
        let mut master = match self.master.for_kernel(self.num_steps) {
            Some((weight, storage @ fused::Storage::HiddenBits(_))) => {
                let mut master = scratch.floats(Slot::Master, self.master.numel())?;
                fused::read_master(weight, storage, 1.0, &mut master)?;
                master
            }
            _ => self.master.begin(whole, scratch)?,
        };
        decay(&mut master, adam.decay_before)?;
        projector.add_back(&low_rank, &mut master.f_view(&gradient.size()[..])?, scratch)?;
        decay(&mut master, adam.decay_after)?;
        match self.master.for_kernel(self.num_steps) {
            Some((weight, storage @ (fused::Storage::HiddenBits(_) | fused::Storage::Stochastic { .. }))) => {
                fused::write_master(&master, weight, storage, 1.0)
            }
            _ => self.master.finish(whole, &master, self.num_steps, scratch),
        }
    }

    /// Named tensors of the state, in their natural shapes, sharing memory with it.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>, TchError> {
        let name = &self.parameter.name;
        let shape = self.parameter.weight.size();
        let moment_shape =
            self.projector.as_ref().map_or(shape.clone(), |projector| projector.low_rank_shape().to_vec());
        let mut tensors = vec![
            (format!("{name}.exp_avg"), self.moments.first.f_view(&moment_shape[..])?),
            (format!("{name}.exp_avg_sq"), self.moments.second.f_view(&moment_shape[..])?),
        ];
        if let Some((suffix, tensor)) = self.master.state() {
            tensors.push((format!("{name}.{suffix}"), tensor.f_view(&shape[..])?));
        }
        for (suffix, tensor) in self.projector.iter().flat_map(Projector::state) {
            tensors.push((format!("{name}.{suffix}"), tensor.shallow_clone()));
        }
        Ok(tensors)
    }

    /// Names, types and shapes of [`ParameterState::tensors`] after `num_steps`.
    pub(crate) fn expected(&self, num_steps: i64) -> Vec<(String, Kind, Vec<i64>)> {
        let name = &self.parameter.name;
        let shape = self.parameter.weight.size();
        let moment_shape =
            self.projector.as_ref().map_or(shape.clone(), |projector| projector.low_rank_shape().to_vec());
        let mut expected = vec![
            (format!("{name}.exp_avg"), self.moments.kind(), moment_shape.clone()),
            (format!("{name}.exp_avg_sq"), self.moments.kind(), moment_shape),
        ];
        if let Some((suffix, tensor)) = self.master.state() {
            expected.push((format!("{name}.{suffix}"), tensor.kind(), shape));
        }
        for (suffix, shape) in self.projector.iter().filter(|_| num_steps > 0).flat_map(Projector::basis_shapes) {
            expected.push((format!("{name}.{suffix}"), self.adam.moments.basis_kind(), shape.to_vec()));
        }
        expected
    }

    /// Makes room for the state of a parameter that has taken `num_steps`.
    pub(crate) fn reset(&mut self, num_steps: i64) -> Result<(), TchError> {
        self.num_steps = num_steps;
        let basis = if num_steps > 0 { Basis::Present } else { Basis::Absent };
        match &mut self.projector {
            Some(projector) => projector.reset(basis, self.moments.first.device()),
            None => Ok(()),
        }
    }
}

/// Makes the basis anew from a float32 gradient, where that is due; returns the time it took.
fn refresh_if_due(name: &str, num_steps: i64, gradient: &Tensor, projector: &mut Projector) -> Result<Duration, Error> {
    if !projector.is_due(num_steps) {
        return Ok(Duration::ZERO);
    }
    let start = Instant::now();
    projector.refresh(gradient).map_err(|source| undecomposed(name, gradient, source))?;
    Ok(start.elapsed())
}

/// Why a gradient could not be decomposed. Looked at after the failure alone, as it waits for the
/// device.
pub(crate) fn undecomposed(name: &str, gradient: &Tensor, source: TchError) -> Error {
    let finite = gradient.f_isfinite().and_then(|finite| finite.f_all()).and_then(|all| all.f_int64_value(&[]));
    match finite {
        Ok(0) => Error::NonFiniteGradient { name: name.to_owned() },
        _ => Error::Parameter { name: name.to_owned(), action: "the decomposition of its gradient", source },
    }
}

pub(crate) fn decay(master: &mut Tensor, factor: Option<f64>) -> Result<(), TchError> {
    if let Some(factor) = factor {
        master.f_mul_scalar_(factor).done()?;
    }
    Ok(())
}
