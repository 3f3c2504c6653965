//! Whether all gradients are finite, looked at before a step changes anything.

use crate::Error;
use crate::error::OnParameter;
use crate::parameter_state::ParameterState;
use tch::{Device, Kind, TchError, Tensor};

/// When a step looks whether its gradients are finite, before it changes anything. A refresh always
/// does, because no subspace can be computed of NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GradientCheck {
    /// At every step on the CPU. On a GPU, where this waits for the device, at the steps that
    /// refresh a subspace and so wait anyway. The default.
    #[default]
    Auto,
    /// At every step.
    EveryStep,
    /// Only at refreshes, each before it is made: after an error the parameters before the one
    /// named may be updated. For callers that check the gradients themselves, by
    /// [`global_gradient_norm`](crate::global_gradient_norm) for example.
    AtRefresh,
}

/// Looks at the gradients if that is due.
pub(crate) fn check(parameters: &[ParameterState], when: GradientCheck) -> Result<(), Error> {
    let is_refreshed =
        |state: &ParameterState| state.projector.as_ref().is_some_and(|projector| projector.is_due(state.num_steps));
    let looked_at: Vec<&ParameterState> = match when {
        GradientCheck::AtRefresh => return Ok(()),
        GradientCheck::EveryStep => parameters.iter().collect(),
        GradientCheck::Auto if parameters.iter().any(is_refreshed) => parameters.iter().collect(),
        GradientCheck::Auto => {
            parameters.iter().filter(|state| state.parameter.weight.device() == Device::Cpu).collect()
        }
    };
    let mut largest = Vec::new();
    for state in looked_at {
        let name = &state.parameter.name;
        if let Some(gradient) = state.current_gradient()?.filter(|gradient| gradient.numel() > 0) {
            let gradient = magnitude(&gradient).for_parameter(name, "checking its gradient")?;
            largest.push((name, gradient));
        }
    }
    let mut devices: Vec<Device> = largest.iter().map(|(_, value)| value.device()).collect();
    devices.dedup();
    // Each device is waited for once.
    for device in devices {
        let of_device: Vec<_> = largest.iter().filter(|(_, value)| value.device() == device).collect();
        let values: Vec<&Tensor> = of_device.iter().map(|(_, value)| value).collect();
        let values = Vec::<f32>::try_from(&Tensor::f_stack(&values, 0)?.f_to_device(Device::Cpu)?)?;
        if let Some(((name, _), _)) = of_device.iter().zip(values).find(|(_, value)| !value.is_finite()) {
            return Err(Error::NonFiniteGradient { name: (*name).clone() });
        }
    }
    Ok(())
}

/// The largest absolute value, in float32; NaN if there is one.
fn magnitude(gradient: &Tensor) -> Result<Tensor, TchError> {
    let (low, high) = gradient.f_aminmax(None, false)?;
    high.f_maximum(&low.f_neg()?)?.f_to_kind(Kind::Float)
}
