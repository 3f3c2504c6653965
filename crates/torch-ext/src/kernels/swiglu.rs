//! The gated unit of the MLP. Gate and up are the two halves of one tensor.

use super::{Argument, Grid, Source, THREADS, Width, blocks_for, check, element_kind, empty, launch, pointer, torch};
use crate::Error;
use tch::{Kind, Tensor};

const NAME: &str = "swiglu";

/// The activation of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x σ(x).
    Silu,
    /// GELU, approximated by tanh.
    GeluTanh,
}

/// Returns act(gate) · up `[n, f]` from gate and up `[n, 2 f]`.
///
/// # Errors
/// [`Error::Operand`] for operands that do not fit, [`Error::Kernel`] when the kernel cannot be
/// compiled or launched.
pub fn forward(activation: Activation, gate_up: &Tensor) -> Result<Tensor, Error> {
    let (kind, n, f) = operand(gate_up)?;
    let out = empty(NAME, &[n, f], kind, gate_up)?;
    run("swiglu_forward", activation, (kind, n, f), &[gate_up, &out])?;
    Ok(out)
}

/// Returns the gradient of gate and up, `[n, 2 f]`, from the output's gradient `da` `[n, f]`, and
/// the output itself, in the memory of `da`.
///
/// # Errors
/// The same as for [`forward`].
pub fn backward(activation: Activation, da: Tensor, gate_up: &Tensor) -> Result<(Tensor, Tensor), Error> {
    let (kind, n, f) = operand(gate_up)?;
    check(NAME, "da", &da, gate_up, kind, n * f)?;
    let d_gate_up = empty(NAME, &[n, 2 * f], kind, gate_up)?;
    run("swiglu_backward", activation, (kind, n, f), &[&da, gate_up, &d_gate_up])?;
    Ok((d_gate_up, da))
}

fn operand(gate_up: &Tensor) -> Result<(Kind, i64, i64), Error> {
    let kind = element_kind(NAME, gate_up)?;
    let (n, width) = torch(NAME, gate_up.size2())?;
    check(NAME, "gate_up", gate_up, gate_up, kind, n * (width / 2) * 2)?;
    Ok((kind, n, width / 2))
}

fn run(
    function: &'static str,
    activation: Activation,
    (kind, n, f): (Kind, i64, i64),
    tensors: &[&Tensor],
) -> Result<(), Error> {
    let definitions = [("GELU_TANH", i64::from(activation == Activation::GeluTanh))];
    let width = Width::of(tensors, kind, f, 8);
    let source = Source { name: NAME, text: include_str!("swiglu/kernel.cu"), kind, width, definitions: &definitions };
    let packs = n * f / width.0;
    let pointers = tensors.iter().map(|tensor| pointer(tensor));
    let arguments: Vec<Argument> = pointers.chain([f, packs].map(Argument::Long)).collect();
    launch(
        &source,
        function,
        Grid { blocks: blocks_for(packs), threads: THREADS, ..Grid::default() },
        tensors[0],
        &arguments,
    )
}
