//! The gated unit of the MLP.

use super::{Argument, Grid, Source, THREADS, Width, blocks_for, check, element_kind, launch, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "swiglu";

/// silu(gate) · up, of operands of one shape.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when it cannot be compiled or launched.
pub fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
    let (kind, numel) = operands(&[("gate", gate), ("up", up)])?;
    let out = torch(NAME, gate.f_empty_like())?;
    let (source, packs) = source(&[gate, up], kind, numel);
    let arguments = [pointer(gate), pointer(up), pointer(&out), Argument::Long(packs)];
    launch(&source, "swiglu_forward", Grid { blocks: blocks_for(packs), threads: THREADS }, gate, &arguments)?;
    Ok(out)
}

/// Gradients of gate and up from that of the output.
///
/// # Errors
/// As [`forward`].
pub fn backward(da: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let (kind, numel) = operands(&[("gate", gate), ("up", up), ("da", da)])?;
    let d_gate = torch(NAME, gate.f_empty_like())?;
    let d_up = torch(NAME, gate.f_empty_like())?;
    let (source, packs) = source(&[da, gate, up], kind, numel);
    let arguments = [pointer(da), pointer(gate), pointer(up), pointer(&d_gate), pointer(&d_up), Argument::Long(packs)];
    launch(&source, "swiglu_backward", Grid { blocks: blocks_for(packs), threads: THREADS }, gate, &arguments)?;
    Ok((d_gate, d_up))
}

fn operands(named: &[(&'static str, &Tensor)]) -> Result<(Kind, i64), Error> {
    let first = named[0].1;
    let kind = element_kind(NAME, first)?;
    let numel = first.numel() as i64;
    named.iter().try_for_each(|(operand, tensor)| check(NAME, operand, tensor, first, kind, numel))?;
    Ok((kind, numel))
}

fn source(tensors: &[&Tensor], kind: Kind, numel: i64) -> (Source<'static>, i64) {
    let width = Width::of(tensors, kind, numel, 8);
    (Source { name: NAME, text: include_str!("kernel.cu"), kind, width, definitions: &[] }, numel / width.0)
}
