//! Targets of one shape that are adjacent in memory take their step together on a GPU: batched
//! products, and elementwise work over all of them. A single product of 1024 × 1024 fills only half
//! of a large GPU.
//!
//! Stacks are found by the addresses of weights and gradients, so the caller need not mention the
//! buffer that they are views into. The state of the members is then made adjacent too. Names,
//! shapes and state files stay those of single parameters.

use crate::accelerated::{
    KernelMoments, StackKeys, StoredStack, StoredWeight, allow_tf32, catch_scalar_panic, fused_kernels,
};
use crate::adam::{AdamFormula, AdamStep};
use crate::basis::{self, Bases, Content, Side, Wanted};
use crate::error::OnParameter;
use crate::master::{KernelWeight, Noise};
use crate::parameter_state::{ParameterState, decay};
use crate::scratch::{Scratch, Slot};
use crate::{Error, memory_budget};
use std::ops::Range;
use std::time::{Duration, Instant};
use tch::{Kind, TchError, Tensor};

/// Elements of the weights to work on at a time. Most of the three float32 buffers of this size
/// that a step needs then stays in a large GPU's cache.
const CHUNK_ELEMENTS: i64 = 8 * 1024 * 1024;

/// Parameters that are adjacent in memory.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) members: Range<usize>,
    side: Side,
    /// `[count, rows, cols]`, the members' own memory.
    weights: Tensor,
    gradients: Tensor,
    /// int16 of the weights' shape, or empty if there are no hidden bits.
    hidden: Tensor,
    /// int64 `[count]`: what each member adds to its random bits.
    noise: Tensor,
    /// `[count, …]`, shaped as the projected gradients.
    first_moments: Tensor,
    second_moments: Tensor,
    /// `[count, …]`.
    bases: Tensor,
}

impl Stack {
    /// The stacks among the parameters from `first` on, whose state is moved together. There are
    /// none where kernels are not available.
    pub(crate) fn find(parameters: &mut [ParameterState], first: usize) -> Result<Vec<Self>, TchError> {
        let mut stacks = Vec::new();
        let mut start = first;
        while start < parameters.len() {
            let mut end = start + 1;
            while end < parameters.len() && follows(&parameters[end - 1], &parameters[end]) {
                end += 1;
            }
            if end - start > 1 {
                stacks.extend(Self::of(&mut parameters[start..end], start)?);
            }
            start = end;
        }
        Ok(stacks)
    }

    fn of(members: &mut [ParameterState], start: usize) -> Result<Option<Self>, TchError> {
        let first = &members[0];
        let (Some(projector), Some(gradient)) = (&first.projector, &first.parameter.gradient) else { return Ok(None) };
        let Some((basis_shape, side)) = projector.for_stack() else { return Ok(None) };
        // Neighbours in one storage can be viewed as one tensor. Neighbours in two storages cannot,
        // and libtorch refuses the view.
        let (Ok(weights), Ok(gradients)) =
            (spanning(&first.parameter.weight, members.len()), spanning(gradient, members.len()))
        else {
            return Ok(None);
        };
        let count = members.len() as i64;
        let device = weights.device();
        let zeros = |[rows, cols]: [i64; 2], kind| Tensor::f_zeros([count, rows, cols], (kind, device));
        let (low_rank_shape, kind) = (projector.low_rank_shape(), first.moments.kind());
        let (first_moments, second_moments) = (zeros(low_rank_shape, kind)?, zeros(low_rank_shape, kind)?);
        let bases = zeros(basis_shape, first.adam.moments.basis_kind())?;
        let has_hidden =
            matches!(first.master.for_kernel(0), Some(KernelWeight { stored: StoredWeight::HiddenBits(_), .. }));
        let hidden_shape = if has_hidden { weights.size() } else { vec![0] };
        let hidden = Tensor::f_zeros(hidden_shape, (Kind::Int16, device))?;
        let noise = members.iter().map(|member| member.master.noise().map_or(0, Noise::parameter) as i64);
        let noise = Tensor::f_from_slice(&noise.collect::<Vec<_>>())?.f_to_device(device)?;
        for (member, index) in members.iter_mut().zip(0..) {
            let place = |stacked: &Tensor| stacked.f_select(0, index)?.f_view([-1]);
            member.moments.move_to(place(&first_moments)?, place(&second_moments)?)?;
            if has_hidden {
                member.master.move_hidden(hidden.f_select(0, index)?.f_view([-1])?)?;
            }
            if let Some(projector) = &mut member.projector {
                projector.move_into_stack(bases.f_select(0, index)?)?;
            }
        }
        let members = start..start + members.len();
        Ok(Some(Stack { members, side, weights, gradients, hidden, noise, first_moments, second_moments, bases }))
    }

    /// Whether all members are at the same step. After a state file was read they may not be.
    pub(crate) fn can_step(&self, members: &[ParameterState]) -> bool {
        members.windows(2).all(|pair| pair[0].num_steps == pair[1].num_steps)
    }

    /// Takes the step. Returns the time spent in refreshes.
    pub(crate) fn step(
        &self,
        members: &mut [ParameterState],
        formula: AdamFormula,
        learning_rate: f64,
        refresh_bytes: u64,
        scratches: &mut Vec<Scratch>,
    ) -> Result<Duration, Error> {
        let refresh_time = self.refresh_if_due(members, refresh_bytes, scratches)?;
        let first = &members[0];
        let adam = AdamStep::new(formula, &first.adam, learning_rate, first.num_steps + 1);
        let scale = first.projector.as_ref().map_or(1.0, |projector| projector.scale);
        let scratch = Scratch::of(scratches, self.weights.device());
        let (_, rows, cols) = self.weights.size3()?;
        for chunk @ (start, _) in self.chunks(CHUNK_ELEMENTS / (rows * cols)) {
            self.update(members, chunk, &adam, scale, scratch)
                .for_parameter(&first_name(members, start), "the update")?;
        }
        members.iter_mut().for_each(|member| member.num_steps += 1);
        Ok(refresh_time)
    }

    /// Refreshes the members that are due. Returns the time it took.
    fn refresh_if_due(
        &self,
        members: &mut [ParameterState],
        refresh_bytes: u64,
        scratches: &mut Vec<Scratch>,
    ) -> Result<Duration, Error> {
        let is_due = |member: &ParameterState| {
            member.projector.as_ref().is_some_and(|projector| projector.is_due(member.num_steps))
        };
        if !members.iter().any(is_due) {
            return Ok(Duration::ZERO);
        }
        let start_of_all = Instant::now();
        let device = self.weights.device();
        let order = self.bases.size().into_iter().skip(1).max().unwrap_or(1);
        let (_, rows, cols) = self.weights.size3()?;
        let is_batched =
            |member: &ParameterState| member.projector.as_ref().is_some_and(|projector| projector.way().is_batched());
        // A singular value decomposition takes one matrix at a time.
        let bytes =
            if members.iter().all(is_batched) { memory_budget::refresh_bytes(device, refresh_bytes) } else { 0 };
        let scratch = Scratch::of(scratches, device);
        let mut start = 0;
        for run in members.chunk_by_mut(|member, next| is_due(member) == is_due(next)) {
            for chunk in run.chunks_mut(memory_budget::matrices_at_a_time(run.len(), [rows, cols], order, bytes)) {
                let count = chunk.len() as i64;
                if is_due(&chunk[0]) {
                    self.refresh_chunk(chunk, start, scratch)?;
                }
                start += count;
            }
        }
        Ok(start_of_all.elapsed())
    }

    /// Refreshes these members, the first of which is number `start`.
    fn refresh_chunk(&self, members: &mut [ParameterState], start: i64, scratch: &mut Scratch) -> Result<(), Error> {
        let count = members.len() as i64;
        let _span = tracing::debug_span!("refresh", matrices = count).entered();
        let failed =
            |source| Error::Parameter { name: first_name(members, 0), action: "the refresh of its subspace", source };
        let gradients = self.gradients.f_narrow(0, start, count).map_err(failed)?;
        let largest = basis::largest(&gradients).map_err(failed)?;
        let contents = basis::contents(&largest).map_err(failed)?;
        if let Some((member, _)) = members.iter().zip(&contents).find(|(_, content)| **content == Content::NotFinite) {
            return Err(Error::NonFiniteGradient { name: member.parameter.name.clone() });
        }
        let at_once = || catch_scalar_panic(|| self.refresh(members, start, [&gradients, &largest]));
        let all_usable = contents.iter().all(|content| *content == Content::Usable);
        if all_usable && let Ok(Some(fresh)) = at_once() {
            return self
                .set_bases(members, start, &fresh)
                .for_parameter(&first_name(members, 0), "keeping its subspace");
        }
        // Some gradient is zero, or the way takes one at a time, or something failed.
        for ((member, content), index) in members.iter_mut().zip(contents).zip(0..) {
            if content == Content::Zero {
                let Some(projector) = &mut member.projector else { continue };
                projector.postpone(gradients.device()).for_parameter(&member.parameter.name, "keeping its subspace")?;
                continue;
            }
            let one = |of_all: &Tensor| {
                of_all.f_narrow(0, index, 1).for_parameter(&member.parameter.name, "reading the gradient")
            };
            let (gradient, largest) = (one(&gradients)?, one(&largest)?);
            member.refresh([&gradient, &largest], scratch)?;
        }
        Ok(())
    }

    /// New bases for all of these members at once, or `None` where the way or their states differ.
    fn refresh(
        &self,
        members: &[ParameterState],
        start: i64,
        [gradients, largest]: [&Tensor; 2],
    ) -> Result<Option<Tensor>, TchError> {
        let bases = self.bases.f_narrow(0, start, members.len() as i64)?;
        let projectors = || members.iter().filter_map(|member| member.projector.as_ref());
        let Some(first) = projectors().next().filter(|first| first.way().is_batched() && members.len() > 1) else {
            return Ok(None);
        };
        if projectors().any(|projector| projector.is_from_gradient() != first.is_from_gradient()) {
            return Ok(None);
        }
        let of_side = |side| (self.side == side).then(|| bases.f_to_kind(Kind::Float)).transpose();
        let previous = match first.is_from_gradient() {
            true => Some(Bases { left: of_side(Side::Left)?, right: of_side(Side::Right)? }),
            false => None,
        };
        // No batched way uses a key or a memory.
        let wanted = Wanted { side: self.side, rank: first.rank(), previous, key: 0, memory: None };
        // These take fresh memory and no buffer: they are larger than what a step needs, and are
        // needed once in hundreds of steps.
        let found = basis::find(first.way(), gradients, largest, &wanted)?.bases;
        Ok(found.left.or(found.right))
    }

    fn set_bases(&self, members: &mut [ParameterState], start: i64, fresh: &Tensor) -> Result<(), TchError> {
        self.bases.f_narrow(0, start, members.len() as i64)?.f_copy_(fresh)?;
        for member in members {
            if let Some(projector) = &mut member.projector {
                projector.use_stacked_basis();
                projector.schedule.refreshed(member.num_steps);
            }
        }
        Ok(())
    }

    /// `(start, count)` of parts of at most `at_most` members.
    fn chunks(&self, at_most: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (at_most, count) = (at_most.max(1), self.members.len() as i64);
        (0..count).step_by(at_most as usize).map(move |start| (start, at_most.min(count - start)))
    }

    fn update(
        &self,
        members: &[ParameterState],
        (start, count): (i64, i64),
        adam: &AdamStep,
        scale: f64,
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let part = |stacked: &Tensor| stacked.f_narrow(0, start, count);
        let (weights, bases) = (part(&self.weights)?, part(&self.bases)?);
        let shape = weights.size();
        let numel = weights.numel() as i64;
        let leader = &members[start as usize];
        let KernelWeight { kernels, stored, .. } = leader.master.for_kernel(leader.num_steps).ok_or_else(no_kernel)?;
        let hidden = if self.hidden.numel() > 0 { part(&self.hidden)? } else { self.hidden.shallow_clone() };
        let noise = part(&self.noise)?;
        let (mut first, mut second) = (part(&self.first_moments)?, part(&self.second_moments)?);
        let mut low_rank = scratch.floats(Slot::LowRank, first.numel() as i64)?.f_view(&first.size()[..])?;
        // One launch serves all members, with the first one's key. An element's index among all
        // elements gives each its own random bits.
        let key = leader.moments.key(leader.num_steps);
        let moments = KernelMoments { first: &mut first, second: &mut second, key };

        // Where the basis is float16, so are the operands: they round as TF32 does, at twice the
        // speed. The step then lacks a power of two, which is a factor on the product.
        let halves = bases.kind() == Kind::Half && !matches!(stored, StoredWeight::Float);
        let (step, bases, factor) = if halves {
            let gradients = part(&self.gradients)?;
            let mut narrow = scratch.halves(Slot::Gradient, numel)?.f_view(&shape[..])?;
            let largest = kernels.narrow_gradient(&gradients, &mut narrow)?;
            match self.side {
                Side::Right => narrow.f_bmm_dtype_out(&low_rank, &bases.f_transpose(1, 2)?, Kind::Float).map(drop)?,
                _ => bases.f_transpose(1, 2)?.f_bmm_dtype_out(&low_rank, &narrow, Kind::Float).map(drop)?,
            }
            let mut step = scratch.halves(Slot::Basis, low_rank.numel() as i64)?.f_view(&low_rank.size()[..])?;
            let factor = kernels.narrow_direction((&mut low_rank, &largest), &mut step, moments, (adam, scale))?;
            (step, bases, factor)
        } else {
            let gradients = scratch.widened(Slot::Gradient, &part(&self.gradients)?)?;
            let bases = scratch.widened(Slot::Basis, &bases)?;
            let _tf32 = allow_tf32(&weights)?;
            match self.side {
                Side::Right => gradients.f_bmm_out(&low_rank, &bases.f_transpose(1, 2)?).map(drop)?,
                _ => bases.f_transpose(1, 2)?.f_bmm_out(&low_rank, &gradients).map(drop)?,
            }
            kernels.direction(&mut low_rank, moments, adam, scale)?;
            (low_rank, bases, 1.0)
        };

        let (left, right) = match self.side {
            Side::Right => (&step, &bases),
            _ => (&bases, &step),
        };
        let stored = match stored {
            StoredWeight::Float => {
                let mut master = weights.shallow_clone();
                decay(&mut master, adam.decay_before)?;
                let _tf32 = allow_tf32(&weights)?;
                master.f_baddbmm_(left, right).map(drop)?;
                return decay(&mut master, adam.decay_after);
            }
            StoredWeight::HiddenBits(_) => StoredStack::HiddenBits(&hidden),
            StoredWeight::Nearest => StoredStack::Nearest,
            StoredWeight::Stochastic { .. } => {
                let seed = leader.master.seed().unwrap_or_default();
                StoredStack::Stochastic(StackKeys { parameters: &noise, seed, step: Noise::mixed(leader.num_steps) })
            }
        };
        // The product is written, not added: adding takes a float32 copy of the weights, which is
        // two more passes over memory.
        let product = scratch.floats(Slot::Master, numel)?.f_view(&shape[..])?;
        if halves {
            left.f_bmm_dtype_out(&product, right, Kind::Float).map(drop)?;
        } else {
            let _tf32 = allow_tf32(&weights)?;
            left.f_bmm_out(&product, right).map(drop)?;
        }
        kernels.add_to_stack((&product, factor), (&weights, stored), adam)
    }
}

fn no_kernel() -> TchError {
    TchError::Kind("no kernel takes this weight".to_owned())
}

fn first_name(members: &[ParameterState], start: i64) -> String {
    members[start as usize].parameter.name.clone()
}

/// Whether `next` is like `previous` and directly follows it in memory, on a GPU whose kernels take
/// both.
fn follows(previous: &ParameterState, next: &ParameterState) -> bool {
    let stackable = |state: &ParameterState| state.projector.as_ref().and_then(|projector| projector.for_stack());
    let (Some(gradient), Some(next_gradient)) = (&previous.parameter.gradient, &next.parameter.gradient) else {
        return false;
    };
    stackable(previous).is_some()
        && stackable(previous) == stackable(next)
        && adjoins(&previous.parameter.weight, &next.parameter.weight)
        && adjoins(gradient, next_gradient)
        && previous.master.for_kernel(0).is_some()
        && next.master.for_kernel(0).is_some()
        && fused_kernels(&[gradient, next_gradient]).is_some()
}

fn adjoins(tensor: &Tensor, next: &Tensor) -> bool {
    if !tensor.defined() || !next.defined() {
        return false;
    }
    let bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    let alike = tensor.size() == next.size() && tensor.kind() == next.kind() && tensor.device() == next.device();
    // Addresses are compared, never followed. An empty tensor has none.
    let address = |tensor: &Tensor| tensor.data_ptr() as usize;
    alike
        && tensor.device().is_cuda()
        && bytes > 0
        && tensor.is_contiguous()
        && next.is_contiguous()
        && address(tensor) + bytes == address(next)
}

/// A view `[count, rows, cols]` of the `count` matrices from this one on. It is an error if the
/// storage ends before.
fn spanning(matrix: &Tensor, count: usize) -> Result<Tensor, TchError> {
    let (rows, cols) = matrix.size2()?;
    matrix.f_detach()?.f_as_strided([count as i64, rows, cols], [rows * cols, cols, 1], None)
}

#[cfg(test)]
mod tests;
