//! All weights in one flat buffer, all gradients in another; tensors are views into them.
//!
//! One call clears all gradients, and one measures their norm. Parameters are ordered by shape, so
//! the weights of one shape can be taken as a single `[count, rows, columns]` tensor. Neighbours
//! that have the same input, for example a block's gate and up, can be joined to one taller matrix
//! for one product.

use crate::Error;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParameterKind {
    /// A weight matrix `[out, in]` of a linear layer inside a block.
    Linear,
    /// The output head `[v, d]`, if it is not tied to the embedding.
    Head,
    /// The embedding `[v, d]`.
    Embedding,
    /// The scale `[d]` of a norm.
    Norm,
    /// A bias `[out]` of a linear layer.
    Bias,
}

/// Name, shape and kind of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Hugging Face's name, for example `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// `[out, in]`, `[v, d]` or `[d]`.
    pub shape: Vec<i64>,
    /// What it is for.
    pub kind: ParameterKind,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// One parameter of [`Parameters`], or several that are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParameterId(usize);

impl ParameterId {
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// The parameters of a model.
#[derive(Debug)]
pub struct Parameters {
    specs: Vec<ParameterSpec>,
    /// Ranges of `specs` that are also available as one tensor.
    joined: Vec<Range<usize>>,
    weights: Tensor,
    /// One for each of `specs`, then one for each of `joined`.
    weight_views: Vec<Tensor>,
    gradients: Option<Tensor>,
    /// In the order of `weight_views`; empty until gradients are allocated.
    gradient_views: Vec<Tensor>,
    gradient_kind: Kind,
}

/// The first parameter of each shape begins at a multiple of this many elements, which keeps vector
/// loads aligned in every type.
const ALIGNMENT: i64 = 64;

impl Parameters {
    /// Zero weights of `kind` for `specs`. Gradients, of `gradient_kind`, are allocated when they
    /// are first asked for.
    ///
    /// # Errors
    /// [`Error::Torch`] when memory is short.
    pub(crate) fn zeros(
        mut specs: Vec<ParameterSpec>,
        kind: Kind,
        gradient_kind: Kind,
        device: Device,
    ) -> Result<Self, Error> {
        // The sort is stable, so parameters of one shape stay in the order of the layers.
        specs.sort_by(|a, b| b.shape.len().cmp(&a.shape.len()).then_with(|| b.shape.cmp(&a.shape)));
        let (_, length) = offsets(&specs);
        let weights = Tensor::f_zeros([length], (kind, device))?;
        let weight_views = views(&weights, &specs, &[])?;
        let (joined, gradient_views) = (Vec::new(), Vec::new());
        Ok(Self { specs, joined, weights, weight_views, gradients: None, gradient_views, gradient_kind })
    }

    /// Name, shape and kind of each parameter, in buffer order.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Weights as views into [`Self::flat_weights`], in the order of [`Self::specs`].
    pub fn weights(&self) -> &[Tensor] {
        &self.weight_views[..self.specs.len()]
    }

    /// All weights, `[total]`, with a few zeros of padding between shapes.
    pub fn flat_weights(&self) -> &Tensor {
        &self.weights
    }

    /// Gradients as views into one flat buffer, in the order of [`Self::specs`]. The first call
    /// allocates them, all zero.
    ///
    /// # Errors
    /// [`Error::Torch`] when memory is short.
    pub fn gradients(&mut self) -> Result<&[Tensor], Error> {
        if self.gradients.is_none() {
            let options = (self.gradient_kind, self.weights.device());
            let flat = Tensor::f_zeros([self.weights.size().iter().product()], options)?;
            self.gradient_views = views(&flat, &self.specs, &self.joined)?;
            self.gradients = Some(flat);
        }
        Ok(&self.gradient_views[..self.specs.len()])
    }

    /// All gradients, `[total]`, laid out as [`Self::flat_weights`].
    ///
    /// # Errors
    /// [`Error::Torch`] when memory is short.
    pub fn flat_gradients(&mut self) -> Result<Tensor, Error> {
        self.gradients()?;
        match &self.gradients {
            Some(flat) => Ok(flat.shallow_clone()),
            None => Ok(Tensor::f_zeros([0], (self.gradient_kind, self.weights.device()))?),
        }
    }

    /// Clears every gradient in one call.
    ///
    /// # Errors
    /// [`Error::Torch`] from libtorch.
    pub fn zero_gradients(&mut self) -> Result<(), Error> {
        if let Some(flat) = &mut self.gradients {
            let _ = flat.f_zero_()?;
        }
        Ok(())
    }

    /// Number of weights, without padding.
    pub fn num_parameters(&self) -> i64 {
        self.specs.iter().map(ParameterSpec::numel).sum()
    }

    pub(crate) fn id(&self, name: &str) -> Option<ParameterId> {
        self.specs.iter().position(|spec| spec.name == name).map(ParameterId)
    }

    /// Whether `next` has the shape of `previous` and lies right behind it.
    pub(crate) fn are_adjacent(&self, previous: ParameterId, next: ParameterId) -> bool {
        let shape = |id: ParameterId| self.specs.get(id.0).map(|spec| &spec.shape);
        previous.0 + 1 == next.0 && shape(next).is_some() && shape(previous) == shape(next)
    }

    /// Joins `count` adjacent parameters, beginning with `first`, to one:
    /// `[count · rows, columns]` or `[count · rows]`.
    pub(crate) fn join(&mut self, first: ParameterId, count: usize) -> Result<ParameterId, Error> {
        if count == 1 {
            return Ok(first);
        }
        let range = first.0..first.0 + count;
        let (offsets, _) = offsets(&self.specs);
        self.weight_views.push(view(&self.weights, &self.specs, &offsets, range.clone())?);
        if let Some(flat) = &self.gradients {
            self.gradient_views.push(view(flat, &self.specs, &offsets, range.clone())?);
        }
        self.joined.push(range);
        Ok(ParameterId(self.weight_views.len() - 1))
    }

    /// The weight in the type that arithmetic is done in; a view if it has that type already.
    pub(crate) fn weight_as(&self, id: ParameterId, kind: Kind) -> Result<Tensor, Error> {
        let weight = &self.weight_views[id.0];
        Ok(if weight.f_kind()? == kind { weight.shallow_clone() } else { weight.f_to_kind(kind)? })
    }

    /// The view to add this parameter's gradient to.
    pub(crate) fn gradient(&self, id: ParameterId) -> Tensor {
        self.gradient_views[id.0].shallow_clone()
    }
}

/// Offset of each parameter and the length of the buffer, in elements.
fn offsets(specs: &[ParameterSpec]) -> (Vec<i64>, i64) {
    let mut offsets = Vec::with_capacity(specs.len());
    let mut end = 0;
    for (index, spec) in specs.iter().enumerate() {
        if index > 0 && specs[index - 1].shape != spec.shape {
            end = (end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        }
        offsets.push(end);
        end += spec.numel();
    }
    (offsets, end)
}

fn views(flat: &Tensor, specs: &[ParameterSpec], joined: &[Range<usize>]) -> Result<Vec<Tensor>, Error> {
    let (offsets, _) = offsets(specs);
    let ranges = (0..specs.len()).map(|index| index..index + 1).chain(joined.iter().cloned());
    ranges.map(|range| view(flat, specs, &offsets, range)).collect()
}

/// The parameters of a range as one tensor. If there are several, they are adjacent.
fn view(flat: &Tensor, specs: &[ParameterSpec], offsets: &[i64], range: Range<usize>) -> Result<Tensor, Error> {
    let spec = &specs[range.start];
    let count = range.len() as i64;
    let mut shape = spec.shape.clone();
    shape[0] *= count;
    Ok(flat.f_narrow(0, offsets[range.start], count * spec.numel())?.f_view(shape.as_slice())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[i64]) -> ParameterSpec {
        ParameterSpec { name: name.to_owned(), shape: shape.to_vec(), kind: ParameterKind::Linear }
    }

    #[test]
    fn one_shape_is_one_stack_and_views_share_the_buffer() {
        let specs = vec![spec("a", &[3, 5]), spec("bias", &[7]), spec("b", &[5, 3]), spec("c", &[3, 5])];
        let mut parameters = Parameters::zeros(specs, Kind::Float, Kind::Double, Device::Cpu).unwrap();
        let names: Vec<_> = parameters.specs().iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c", "bias"]);
        let _ = parameters.weights()[2].shallow_clone().fill_(2.0);
        let stack = parameters.flat_weights().narrow(0, 64, 30).view([2, 3, 5]);
        assert_eq!(stack.select(0, 1).sum(Kind::Float).double_value(&[]), 30.0);
        assert_eq!(parameters.flat_weights().sum(Kind::Float).double_value(&[]), 30.0);
        assert_eq!(parameters.num_parameters(), 52);

        let id = parameters.id("bias").unwrap();
        let _ = parameters.gradients().unwrap();
        let _ = parameters.gradient(id).fill_(1.0);
        assert_eq!(parameters.flat_gradients().unwrap().sum(Kind::Double).double_value(&[]), 7.0);
        parameters.zero_gradients().unwrap();
        assert_eq!(parameters.flat_gradients().unwrap().sum(Kind::Double).double_value(&[]), 0.0);
        assert!(parameters.id("absent").is_none());
    }

    #[test]
    fn neighbours_can_be_joined() {
        let specs = vec![spec("q", &[4, 5]), spec("gate", &[3, 5]), spec("up", &[3, 5]), spec("bias", &[7])];
        let mut parameters = Parameters::zeros(specs, Kind::Float, Kind::Float, Device::Cpu).unwrap();
        let id = |name| parameters.id(name).unwrap();
        let (q, gate, up, bias) = (id("q"), id("gate"), id("up"), id("bias"));
        assert!(parameters.are_adjacent(gate, up));
        for (previous, next) in [(q, gate), (up, gate), (up, bias), (gate, gate)] {
            assert!(!parameters.are_adjacent(previous, next));
        }
        assert_eq!(parameters.join(q, 1).unwrap(), q);
        let both = parameters.join(gate, 2).unwrap();
        let weight = parameters.weight_as(both, Kind::Float).unwrap();
        assert_eq!(weight.size(), [6, 5]);
        let _ = weight.narrow(0, 3, 3).fill_(1.0);
        assert_eq!(parameters.weights()[up.index()].sum(Kind::Float).double_value(&[]), 15.0);
        assert_eq!(parameters.weights().len(), 4);
        assert_eq!(parameters.gradients().unwrap().len(), 4);
        let _ = parameters.gradient(both).fill_(1.0);
        assert_eq!(parameters.gradients().unwrap()[gate.index()].sum(Kind::Float).double_value(&[]), 15.0);
        assert_eq!(parameters.flat_gradients().unwrap().sum(Kind::Float).double_value(&[]), 30.0);
    }
}
