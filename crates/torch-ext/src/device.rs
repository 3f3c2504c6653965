//! Which device to compute on.

use crate::Error;
use crate::cuda::{Unavailable, load_from};
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;
use tch::Device;

/// A choice of device, spelled `auto`, `cpu`, `cuda` (the same as `cuda:0`) or `cuda:N`.
///
/// ```
/// use torch_ext::device::DeviceChoice;
/// assert_eq!("cuda".parse::<DeviceChoice>()?, DeviceChoice::Cuda(0));
/// assert_eq!(DeviceChoice::Cuda(1).to_string(), "cuda:1");
/// # Ok::<(), torch_ext::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first CUDA device, or the CPU where there is no NVIDIA device.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

/// The part of the spelling before the index.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Family {
    Auto,
    Cpu,
    Cuda,
}
serde_plain::derive_display_from_serialize!(Family);
serde_plain::derive_fromstr_from_deserialize!(Family);

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::UnknownDevice { found: text.to_owned() };
        let (family, index) = text.split_once(':').map_or((text, None), |(family, index)| (family, Some(index)));
        match (family.parse().map_err(|_| unknown())?, index) {
            (Family::Auto, None) => Ok(Self::Auto),
            (Family::Cpu, None) => Ok(Self::Cpu),
            (Family::Cuda, None) => Ok(Self::Cuda(0)),
            (Family::Cuda, Some(index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            (Family::Auto | Family::Cpu, Some(_)) => Err(unknown()),
        }
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => write!(formatter, "{}", Family::Auto),
            Self::Cpu => write!(formatter, "{}", Family::Cpu),
            Self::Cuda(index) => write!(formatter, "{}:{index}", Family::Cuda),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// Resolves a choice to a device of this machine, and loads CUDA if the choice may need it.
///
/// `cuda_folders` are places where `libtorch_cuda.so` may be, for [`load_from`]; they count only if
/// this is the process's first call that loads CUDA. With [`DeviceChoice::Auto`] the result is the
/// CPU only on a machine without an NVIDIA device, or where `CUDA_VISIBLE_DEVICES` hides them all.
///
/// # Errors
/// [`Error::CudaUnavailable`] when CUDA was chosen and cannot be used, [`Error::UnusableGpu`] when
/// there is an NVIDIA device that cannot be used and the choice is `auto`,
/// [`Error::NoSuchDevice`] when CUDA has no device of that index.
pub fn choose(choice: DeviceChoice, cuda_folders: &[PathBuf]) -> Result<Device, Error> {
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu); // without loading CUDA
    }
    resolve(choice, load_from(cuda_folders).map(|()| tch::Cuda::device_count()))
}

/// `cuda` is the number of devices, or why there are none.
fn resolve(choice: DeviceChoice, cuda: Result<i64, Unavailable>) -> Result<Device, Error> {
    match (choice, cuda) {
        (DeviceChoice::Cpu, _) | (DeviceChoice::Auto, Err(Unavailable::NoDriver | Unavailable::Hidden)) => {
            Ok(Device::Cpu)
        }
        (DeviceChoice::Auto, Ok(_)) => Ok(Device::Cuda(0)),
        // Days on the CPU in place of hours would be a surprise.
        (DeviceChoice::Auto, Err(reason)) => Err(Error::UnusableGpu { reason }),
        (DeviceChoice::Cuda(index), Ok(count)) if i64::try_from(index).is_ok_and(|index| index < count) => {
            Ok(Device::Cuda(index))
        }
        (DeviceChoice::Cuda(index), Ok(count)) => Err(Error::NoSuchDevice { index, count }),
        (DeviceChoice::Cuda(_), Err(reason)) => Err(Error::CudaUnavailable { choice, reason }),
    }
}

#[cfg(test)]
mod tests;
