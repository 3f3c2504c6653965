//! The refresh of one target: a new basis, and what it does to the moments.

use crate::basis::{self, Bases, Content, Found, Memory, Wanted};
use crate::error::OnParameter;
use crate::master::Noise;
use crate::parameter_state::ParameterState;
use crate::projector::Projector;
use crate::scratch::Scratch;
use crate::{BasisChange, Error, accelerated, transport};
use std::time::{Duration, Instant};
use tch::{TchError, Tensor};
use tracing::warn;

const ACTION: &str = "the refresh of its subspace";

impl ParameterState {
    /// Refreshes the subspace from this gradient if that is due. Returns the time it took.
    pub(crate) fn refresh_if_due(&mut self, gradient: &Tensor, scratch: &mut Scratch) -> Result<Duration, Error> {
        let Some(projector) = self.projector.as_mut().filter(|projector| projector.is_due(self.num_steps)) else {
            return Ok(Duration::ZERO);
        };
        let name = &self.parameter.name;
        let _span = tracing::debug_span!("refresh", parameter = name, matrices = 1).entered();
        let start = Instant::now();
        let gradient = gradient.f_unsqueeze(0).for_parameter(name, ACTION)?;
        let largest = basis::largest(&gradient).for_parameter(name, ACTION)?;
        match basis::contents(&largest).for_parameter(name, ACTION)?[..] {
            [Content::Usable] => self.refresh([&gradient, &largest], scratch)?,
            [Content::Zero] => projector.postpone(gradient.device()).for_parameter(name, ACTION)?,
            _ => return Err(Error::NonFiniteGradient { name: name.clone() }),
        }
        Ok(start.elapsed())
    }

    /// Refreshes the subspace from a gradient `[1, rows, cols]` that is usable, and its largest
    /// absolute value `[1]`. A failure keeps the old basis.
    pub(crate) fn refresh(&mut self, gradient: [&Tensor; 2], scratch: &mut Scratch) -> Result<(), Error> {
        let Some(mut projector) = self.projector.take() else { return Ok(()) };
        let result = self.refresh_with(&mut projector, gradient, scratch);
        self.projector = Some(projector);
        result.for_parameter(&self.parameter.name, ACTION)
    }

    fn refresh_with(
        &mut self,
        projector: &mut Projector,
        [gradient, largest]: [&Tensor; 2],
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let previous = projector.batch_of_bases()?;
        let estimate = match &previous {
            Some(_) if projector.way().uses_memory() => self.gradient_estimate(projector, scratch)?,
            _ => None,
        };
        let wanted = Wanted {
            side: projector.side(),
            rank: projector.rank(),
            previous,
            key: Noise::new(projector.config.seed, &self.parameter.name).key(self.num_steps),
            memory: estimate.as_ref().map(|first_moment| Memory { first_moment, share: self.adam.beta1 }),
        };
        let Some(found) = self.find_or_fall_back(projector, [gradient, largest], &wanted) else {
            // A failure will hardly pass within a step, so an old basis serves until it is due
            // again.
            if wanted.previous.is_none() {
                return projector.postpone(gradient.device());
            }
            projector.schedule.refreshed(self.num_steps);
            return Ok(());
        };
        projector.set_bases(&found.bases.map(|basis| basis.f_squeeze_dim(0))?)?;
        projector.schedule.refreshed(self.num_steps);
        let Some(previous) = &wanted.previous else { return Ok(()) };
        if projector.schedule.is_lazy() {
            note_cosine(projector, &found, previous)?;
        }
        match projector.config.moments {
            BasisChange::Keep => Ok(()),
            BasisChange::Transport => self.transport(projector, &found.bases, previous, scratch),
            BasisChange::Reset => {
                projector.schedule.moments_are_zero(self.num_steps);
                self.change_moments(scratch, |first, second| {
                    first.shallow_clone().f_zero_().map(drop)?;
                    second.shallow_clone().f_zero_().map(drop)
                })
            }
        }
    }

    fn find_or_fall_back(
        &self,
        projector: &Projector,
        [gradient, largest]: [&Tensor; 2],
        wanted: &Wanted<'_>,
    ) -> Option<Found> {
        let (name, way) = (&self.parameter.name, projector.way());
        let error = match accelerated::catch_scalar_panic(|| basis::find(way, gradient, largest, wanted)) {
            Ok(found) => return Some(found),
            Err(error) => error,
        };
        warn!(
            "the subspace of `{name}` comes from singular vectors on the CPU, because {} failed: {error}",
            way.name()
        );
        match accelerated::catch_scalar_panic(|| basis::find_on_cpu(way, gradient, largest, wanted)) {
            Ok(found) => Some(found),
            Err(error) => {
                warn!("`{name}` keeps its old subspace, because its gradient could not be decomposed: {error}");
                None
            }
        }
    }

    /// The bias-corrected first moment as one of a batch, or `None` before the first step.
    fn gradient_estimate(&self, projector: &Projector, scratch: &mut Scratch) -> Result<Option<Tensor>, TchError> {
        let steps = self.moment_steps(projector);
        if steps == 0 {
            return Ok(None);
        }
        let [a, b] = projector.low_rank_shape();
        let (first, _) = self.moments.begin((0, a * b), scratch)?;
        first.f_view([1, a, b])?.f_div_scalar(1.0 - self.adam.beta1.powf(steps as f64)).map(Some)
    }

    /// Steps that the moments hold.
    fn moment_steps(&self, projector: &Projector) -> i64 {
        self.num_steps - projector.schedule.progress().moments_since
    }

    fn transport(
        &self,
        projector: &Projector,
        fresh: &Bases,
        previous: &Bases,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let change = transport::Change::new(fresh, previous)?;
        let steps = self.moment_steps(projector);
        let [a, b] = projector.low_rank_shape();
        self.change_moments(scratch, |first, second| {
            let matrix = |moment: &Tensor| moment.f_view([1, a, b]);
            change.carry(matrix(first)?, matrix(second)?, (&self.adam, steps))
        })
    }

    /// Changes both moments, flat and in float32, in place.
    fn change_moments(
        &self,
        scratch: &mut Scratch,
        change: impl FnOnce(&Tensor, &Tensor) -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        let whole = (0, self.moments.first.numel() as i64);
        let (first, second) = self.moments.begin(whole, scratch)?;
        change(&first, &second)?;
        // Not the number of the step: its update rounds with other random bits.
        self.moments.finish(whole, [&first, &second], !self.num_steps, scratch)
    }
}

/// Tells a lazy target's schedule how much of the first vector stayed.
fn note_cosine(projector: &mut Projector, found: &Found, previous: &Bases) -> Result<(), TchError> {
    let (fresh, previous, along) = match (&found.bases, previous) {
        (Bases { right: Some(fresh), .. }, Bases { right: Some(previous), .. }) => (fresh, previous, 0),
        (Bases { left: Some(fresh), .. }, Bases { left: Some(previous), .. }) => (fresh, previous, 1),
        _ => return Ok(()),
    };
    let place = match &found.places {
        Some(places) => places.f_int64_value(&[0, 0])?,
        None => 0,
    };
    let vector = |basis: &Tensor, index| basis.f_select(0, 0)?.f_select(along, index);
    let before = vector(previous, projector.schedule.progress().lazy.first_vector)?;
    let cosine = vector(fresh, place)?.f_dot(&before)?.f_abs()?.f_double_value(&[])?;
    projector.schedule.note_cosine(cosine as f32, place);
    Ok(())
}

#[cfg(test)]
mod tests;
