//! A parameter with its optimizer state, and one step of it, projected or not.

use crate::accelerated::{StoredWeight, allow_tf32, fused_kernels};
use crate::adam::{AdamFormula, AdamStep};
use crate::error::OnParameter;
use crate::family::Family;
use crate::master::{KernelWeight, MasterWeight};
use crate::moments::Moments;
use crate::projector::{Basis, Projector};
use crate::scratch::{Scratch, Slot};
use crate::{AdamConfig, Error, Parameter, WeightUpdate};
use std::time::Duration;
use tch::{Kind, TchError, Tensor};

/// A parameter and its state, or a matrix of a parameter that is a stack of them.
#[derive(Debug)]
pub(crate) struct ParameterState {
    pub(crate) parameter: Parameter,
    pub(crate) family: Option<Family>,
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
        Ok(ParameterState { parameter, family: None, adam: adam.clone(), master, num_steps: 0, moments, projector })
    }

    /// Takes the step if there is a gradient. Returns the time spent in a refresh.
    pub(crate) fn step(
        &mut self,
        formula: AdamFormula,
        learning_rate: f64,
        scratches: &mut Vec<Scratch>,
    ) -> Result<Duration, Error> {
        let Some(gradient) = self.current_gradient()? else {
            return Ok(Duration::ZERO);
        };
        let scratch = Scratch::of(scratches, self.parameter.weight.device());
        let refresh_time = self.refresh_if_due(&gradient, scratch)?;
        let adam = AdamStep::new(formula, &self.adam, learning_rate, self.num_steps + 1 - self.moments_since());
        match self.projector.take() {
            None => self.full_update(&gradient, &adam, scratch).for_parameter(&self.parameter.name, "the update")?,
            Some(mut projector) => {
                let updated = self.projected_step(&gradient, &mut projector, &adam, scratch);
                self.projector = Some(projector);
                updated?;
            }
        }
        self.num_steps += 1;
        Ok(refresh_time)
    }

    fn full_update(&mut self, gradient: &Tensor, adam: &AdamStep, scratch: &mut Scratch) -> Result<(), TchError> {
        let gradient = gradient.f_view([-1])?;
        if let Some(KernelWeight { flat, stored, .. }) = self.master.for_kernel(self.num_steps)
            && let Some(kernels) = fused_kernels(&[&gradient])
        {
            return kernels.update((flat, stored), &gradient, self.moments.for_kernel(self.num_steps), adam);
        }
        for range @ (start, length) in scratch.chunks(self.master.numel()) {
            let gradient = scratch.widened(Slot::Gradient, &gradient.f_narrow(0, start, length)?)?;
            let (mut first, mut second) = self.moments.begin(range, scratch)?;
            let mut denominator = scratch.floats(Slot::WorkA, length)?;
            let scaled = scratch.floats(Slot::WorkB, length)?;

            adam.advance(&gradient, &mut first, &mut second, &mut denominator)?;
            adam.denominator(&second, &mut denominator)?;
            first.f_mul_scalar_out(&scaled, -adam.step_size).map(drop)?;
            let mut master = self.master.begin(range, scratch)?;
            decay(&mut master, adam.decay_before)?;
            master.f_addcdiv_(&scaled, &denominator).map(drop)?;
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
    ) -> Result<(), Error> {
        let name = &self.parameter.name;
        let gradient = scratch.widened(Slot::Gradient, gradient).for_parameter(name, "reading the gradient")?;
        self.projected_update(&gradient, projector, adam, scratch).for_parameter(&self.parameter.name, "the update")
    }

    /// The step before which the moments were last zero.
    fn moments_since(&self) -> i64 {
        self.projector.as_ref().map_or(0, |projector| projector.schedule.progress().moments_since)
    }

    /// Adam in the subspace (algorithm 2 of the GaLore paper): `R = P G` is the projected gradient,
    /// `N` is Adam's direction for it, and `α Pᵀ N` is the step of the weight.
    fn projected_update(
        &mut self,
        gradient: &Tensor,
        projector: &Projector,
        adam: &AdamStep,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let _tf32 = allow_tf32(gradient)?;
        let low_rank = projector.project(gradient, scratch)?;
        let mut flat = low_rank.f_view([-1])?;
        match fused_kernels(&[&flat]) {
            Some(kernels) => {
                kernels.direction(&mut flat, self.moments.for_kernel(self.num_steps), adam, projector.scale)?;
            }
            None => self.plain_direction(&flat, adam, projector.scale, scratch)?,
        }
        let whole = (0, self.master.numel());
        let mut master = match self.master.for_kernel(self.num_steps) {
            Some(KernelWeight { kernels, flat, stored }) if !matches!(stored, StoredWeight::Float) => {
                let mut master = scratch.floats(Slot::Master, self.master.numel())?;
                kernels.read_master((flat, stored), 1.0, &mut master)?;
                master
            }
            _ => self.master.begin(whole, scratch)?,
        };
        decay(&mut master, adam.decay_before)?;
        projector.add_back(&low_rank, &mut master.f_view(&gradient.size()[..])?, scratch)?;
        decay(&mut master, adam.decay_after)?;
        match self.master.for_kernel(self.num_steps) {
            Some(KernelWeight { kernels, flat, stored }) if !matches!(stored, StoredWeight::Float) => {
                kernels.write_master(&master, (flat, stored), 1.0)
            }
            _ => self.master.finish(whole, &master, self.num_steps, scratch),
        }
    }

    /// Replaces a flat projected gradient (float32) by the step in the subspace, times `scale`.
    fn plain_direction(
        &self,
        flat: &Tensor,
        adam: &AdamStep,
        scale: f64,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        for (start, length) in scratch.chunks(flat.numel() as i64) {
            let mut range = flat.f_narrow(0, start, length)?;
            let (mut first, mut second) = self.moments.begin((start, length), scratch)?;
            let mut work = scratch.floats(Slot::WorkA, length)?;
            adam.advance(&range, &mut first, &mut second, &mut work)?;
            adam.denominator(&second, &mut work)?;
            first.f_div_out(&range, &work).map(drop)?;
            // Scaled in the subspace, where it is smallest. The back-projection then adds directly
            // to the weight.
            range.f_mul_scalar_(-adam.step_size * scale).map(drop)?;
            self.moments.finish((start, length), [&first, &second], self.num_steps, scratch)?;
        }
        Ok(())
    }

    /// Named tensors of the state, in their natural shapes. They share memory with it.
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

    /// Prepares for reading the state of a parameter that has taken `num_steps`.
    pub(crate) fn reset(&mut self, num_steps: i64) -> Result<(), TchError> {
        self.num_steps = num_steps;
        let basis = if num_steps > 0 { Basis::Present } else { Basis::Absent };
        match &mut self.projector {
            Some(projector) => projector.reset(basis, self.moments.first.device()),
            None => Ok(()),
        }
    }
}

pub(crate) fn decay(master: &mut Tensor, factor: Option<f64>) -> Result<(), TchError> {
    if let Some(factor) = factor {
        master.f_mul_scalar_(factor).map(drop)?;
    }
    Ok(())
}
