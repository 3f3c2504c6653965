//! Finds and loads `libtorch_cuda.so`.

use super::library::loader_message;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const NAME: &str = "libtorch_cuda.so";
/// Present where an NVIDIA device is: on Linux, and on Windows' subsystem for Linux.
const DEVICE_FILES: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"];
/// What the kernel's part of the driver says about itself. A container sees it whether it was given
/// a device or not.
const DRIVER_VERSION_FILE: &str = "/proc/driver/nvidia/version";
/// The first driver for CUDA 13.0, which torch 2.11 is built with.
const OLDEST_DRIVER: u32 = 580;

/// Why CUDA cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no NVIDIA device, so nothing was loaded.
    #[error("this machine has no NVIDIA driver")]
    NoDriver,
    /// The environment hides every device, so nothing was loaded.
    #[error("CUDA_VISIBLE_DEVICES hides every CUDA device")]
    Hidden,
    /// There is a device, but its driver is older than the CUDA of libtorch needs.
    #[error("the NVIDIA driver {found} is too old: CUDA 13.0 of torch 2.11 needs {OLDEST_DRIVER} or newer")]
    DriverTooOld {
        /// The driver's version, such as `550.54.15`.
        found: String,
    },
    /// There is a device, but `libtorch_cuda.so` of the libtorch in use was not found or did not
    /// load.
    #[error("torch 2.11's {NAME} cannot be loaded ({cause}); LD_LIBRARY_PATH or TORCH_CUDA_LIB must name its folder")]
    NotLoaded {
        /// The messages of the dynamic loader, one for each place that was tried.
        cause: String,
    },
    /// The library is loaded, but CUDA reports no device.
    #[error("{NAME} is loaded, but CUDA finds no device that it can use{}", driver.as_ref().map(|driver| 
        format!(" (NVIDIA driver {driver}: CUDA 13.0 needs {OLDEST_DRIVER} or newer)")).unwrap_or_default())]
    NoDevice {
        /// The driver's version, if the system says it.
        driver: Option<String>,
    },
}

/// What decides whether CUDA can be used.
#[derive(Debug)]
struct Machine {
    has_device: bool,
    /// Whether the user turned all devices off.
    is_hidden: bool,
    /// The driver's version, if the system says it.
    driver: Option<String>,
}

impl Machine {
    fn here() -> Self {
        let text = std::fs::read_to_string(DRIVER_VERSION_FILE).unwrap_or_default();
        let visible = std::env::var_os("CUDA_VISIBLE_DEVICES");
        Self { has_device: has_driver(), is_hidden: hides_all(visible.as_deref()), driver: driver_version(&text) }
    }

    /// `load` is called where there is a device. `is_available` asks CUDA after that.
    ///
    /// The driver's version is looked at only when something failed, because NVIDIA's packages for
    /// forward compatibility make a newer CUDA run on an older driver.
    fn diagnose(
        self,
        load: impl FnOnce() -> Result<(), Unavailable>,
        is_available: impl FnOnce() -> bool,
    ) -> Result<(), Unavailable> {
        let major = self.driver.as_deref().and_then(|driver| driver.split('.').next()?.parse::<u32>().ok());
        let too_old = self.driver.clone().filter(|_| major.is_some_and(|major| major < OLDEST_DRIVER));
        if self.has_device && !self.is_hidden {
            load().map_err(|reason| match (reason, &too_old) {
                (Unavailable::NotLoaded { cause }, Some(found)) => {
                    let second = Unavailable::DriverTooOld { found: found.clone() };
                    Unavailable::NotLoaded { cause: format!("{cause}; and {second}") }
                }
                (reason, _) => reason,
            })?;
        }
        match (is_available(), self.has_device, too_old) {
            (true, ..) => Ok(()),
            (false, false, _) => Err(Unavailable::NoDriver),
            (false, true, _) if self.is_hidden => Err(Unavailable::Hidden),
            (false, true, Some(found)) => Err(Unavailable::DriverTooOld { found }),
            (false, true, None) => Err(Unavailable::NoDevice { driver: self.driver }),
        }
    }
}

/// Whether this value of `CUDA_VISIBLE_DEVICES` leaves no device.
fn hides_all(visible: Option<&OsStr>) -> bool {
    visible.and_then(OsStr::to_str).is_some_and(|visible| visible.trim().is_empty() || visible.trim().starts_with('-'))
}

/// The version in a line such as
/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue …`. The open module has its
/// build's name in front of the version.
fn driver_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| {
        word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// Loads CUDA if this machine has it, and returns whether it can be used: [`load_from`] without
/// further folders.
pub fn load() -> bool {
    load_from(&[]).is_ok()
}

/// Loads `libtorch_cuda.so` if there is an NVIDIA driver.
///
/// The library is searched for in the folder that the environment variable `TORCH_CUDA_LIB` names,
/// on the dynamic loader's path (`LD_LIBRARY_PATH`), and in `folders`, in this order. The first
/// call in a process, of this function or of [`load`], does the work and decides for good: libtorch
/// remembers its first answer to whether there is CUDA. So a program calls this before it makes a
/// tensor.
///
/// # Errors
/// The reason why CUDA cannot be used.
pub fn load_from(folders: &[PathBuf]) -> Result<(), Unavailable> {
    static OUTCOME: OnceLock<Result<(), Unavailable>> = OnceLock::new();
    OUTCOME.get_or_init(|| try_to_load(folders)).clone()
}

/// Returns whether this machine has an NVIDIA device and a driver for it.
pub fn has_driver() -> bool {
    DEVICE_FILES.iter().any(|path| Path::new(path).exists())
}

fn try_to_load(folders: &[PathBuf]) -> Result<(), Unavailable> {
    // The library holds half a gigabyte of kernels: it is not loaded on a machine without a GPU.
    // One that is linked, or loaded already, is used all the same.
    let load = || {
        let configured = std::env::var_os("TORCH_CUDA_LIB").map(PathBuf::from);
        open_first(&candidates(configured, folders))
    };
    Machine::here().diagnose(load, tch::Cuda::is_available)
}

/// A path without a folder makes the loader search its own path.
fn candidates(configured: Option<PathBuf>, folders: &[PathBuf]) -> Vec<PathBuf> {
    let configured = configured.map(|folder| folder.join(NAME));
    let registered = folders.iter().map(|folder| folder.join(NAME));
    configured.into_iter().chain([PathBuf::from(NAME)]).chain(registered).collect()
}

fn open_first(candidates: &[PathBuf]) -> Result<(), Unavailable> {
    let mut causes = Vec::new();
    for candidate in candidates {
        // SAFETY: the library is libtorch's own CUDA half, made to be loaded beside the
        // libtorch_cpu.so of this process; its initialisers register kernels. It is never unloaded.
        match unsafe { Library::open(Some(candidate), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                return Ok(());
            }
            Err(error) => causes.push(loader_message(&error)),
        }
    }
    Err(Unavailable::NotLoaded { cause: causes.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_searched_for_in_the_documented_order() {
        let found = candidates(Some("/configured".into()), &["/first".into(), "/second".into()]);
        let expected = ["/configured/libtorch_cuda.so", NAME, "/first/libtorch_cuda.so", "/second/libtorch_cuda.so"]
            .map(PathBuf::from);
        assert_eq!(found, expected);
        assert_eq!(candidates(None, &[]), [PathBuf::from(NAME)]);
    }

    #[test]
    fn every_place_that_failed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (damaged, absent) = (folder.path().join("damaged.so"), folder.path().join("absent.so"));
        std::fs::write(&damaged, "not a library").unwrap();
        let Err(Unavailable::NotLoaded { cause }) = open_first(&[damaged.clone(), absent.clone()]) else {
            panic!("neither is a library");
        };
        let (first, second) = cause.split_once("; ").unwrap();
        assert!(first.contains(&damaged.display().to_string()), "{first}");
        assert!(second.contains(&absent.display().to_string()) && second.contains("No such file"), "{second}");
    }

    #[test]
    fn the_cause_is_the_drivers_age_the_library_or_the_device() {
        let found = |has_device, driver: Option<&str>, loads: bool, is_available: bool| {
            let load = || match loads {
                true => Ok(()),
                false => Err(Unavailable::NotLoaded { cause: "no such file".to_owned() }),
            };
            let machine = Machine { has_device, is_hidden: false, driver: driver.map(str::to_owned) };
            machine.diagnose(load, || is_available).map_err(|reason| reason.to_string())
        };
        assert_eq!(found(true, Some("580.65.06"), true, true), Ok(()));
        assert_eq!(found(true, None, true, true), Ok(()), "Windows' subsystem does not say");
        assert_eq!(found(false, None, false, true), Ok(()), "linked");
        assert!(found(false, None, false, false).unwrap_err().contains("no NVIDIA driver"));
        let old = found(true, Some("550.54.15"), true, false).unwrap_err();
        assert!(old.contains("driver 550.54.15 is too old") && old.contains("needs 580 or newer"), "{old}");
        assert_eq!(found(true, Some("550.54.15"), true, true), Ok(()), "with a package for forward compatibility");
        let both = found(true, Some("550.54.15"), false, false).unwrap_err();
        assert!(both.contains("no such file; and the NVIDIA driver 550.54.15 is too old"), "{both}");
        assert!(found(true, Some("590.1"), false, false).unwrap_err().contains("no such file"));
        let none = found(true, Some("590.1"), true, false).unwrap_err();
        assert!(none.contains("finds no device") && none.contains("driver 590.1"), "{none}");
        assert!(found(true, None, true, false).unwrap_err().ends_with("that it can use"));
    }

    #[test]
    fn devices_that_the_user_hides_are_not_loaded() {
        for (visible, hides) in
            [(Some(""), true), (Some("-1"), true), (Some("0"), false), (Some("1,0"), false), (None, false)]
        {
            assert_eq!(hides_all(visible.map(OsStr::new)), hides, "{visible:?}");
        }
        let machine = Machine { has_device: true, is_hidden: true, driver: Some("550.1".to_owned()) };
        assert_eq!(machine.diagnose(|| panic!("not to be loaded"), || false), Err(Unavailable::Hidden));
    }

    #[test]
    fn the_drivers_version_is_read_from_either_module() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (x@y)\n";
        assert_eq!(driver_version(closed).as_deref(), Some("550.54.15"));
        assert_eq!(driver_version(open).as_deref(), Some("580.65.06"));
        assert_eq!(driver_version("GCC version: 12.1"), None);
        assert_eq!(driver_version(""), None);
    }

    #[test]
    fn the_first_call_decides_for_the_process() {
        let first = load_from(&[]);
        assert_eq!(load_from(&["/elsewhere".into()]), first);
        assert_eq!(load(), first.is_ok());
        assert!(has_driver() || !matches!(first, Err(Unavailable::NoDevice { .. })));
    }
}
