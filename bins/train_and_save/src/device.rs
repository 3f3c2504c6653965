//! Where the model goes, and in what type it is computed there.

use crate::settings::{DeviceChoice, Settings};
use crate::terminal::say;
use anyhow::{Result, bail};
use causal_lm::ModelOptions;
use tch::{Device, Kind};

/// The device that was asked for, or the best there is.
///
/// # Errors
/// When this machine does not have it, or libtorch's CUDA half is not found.
pub fn choose(choice: DeviceChoice) -> Result<Device> {
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    let has_cuda = torch_ext::cuda::load();
    match choice {
        DeviceChoice::Auto if has_cuda => Ok(Device::Cuda(0)),
        DeviceChoice::Cuda(index) if has_cuda => {
            let count = tch::Cuda::device_count();
            if i64::try_from(index).is_ok_and(|index| index < count) {
                return Ok(Device::Cuda(index));
            }
            bail!("--device cuda:{index}: this machine has {count} CUDA devices");
        }
        DeviceChoice::Cuda(_) => {
            bail!(
                "--device cuda: no CUDA device can be used here; LD_LIBRARY_PATH must reach torch 2.11's libtorch_cuda.so"
            )
        }
        _ => {
            if torch_ext::cuda::has_driver() {
                say(
                    "warning: there is an NVIDIA driver, but torch 2.11's libtorch_cuda.so was not found; training on the CPU",
                );
            }
            Ok(Device::Cpu)
        }
    }
}

/// How the model is held and run on a device.
pub fn model_options(settings: &Settings, device: Device) -> ModelOptions {
    let compute_dtype = match (settings.bf16, device) {
        (Some(true), _) => Some(Kind::BFloat16),
        (Some(false), _) => Some(Kind::Float),
        // The model's own rule on the CPU: float32 arithmetic.
        (None, Device::Cpu) => None,
        (None, _) => Some(Kind::BFloat16),
    };
    ModelOptions {
        device,
        dtype: settings.dtype,
        compute_dtype,
        attention: settings.attention,
        recompute: settings.recompute.unwrap_or_default(),
        ..ModelOptions::default()
    }
}
