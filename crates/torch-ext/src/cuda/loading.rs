//! Finds and loads `libtorch_cuda.so`.

use super::library::loader_message;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const NAME: &str = "libtorch_cuda.so";
/// Present where an NVIDIA driver is: on Linux, and on Windows' subsystem for Linux.
const DRIVER_FILES: [&str; 2] = ["/dev/nvidiactl", "/dev/dxg"];

/// Why CUDA cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no NVIDIA driver, so nothing was loaded.
    #[error("this machine has no NVIDIA driver")]
    NoDriver,
    /// There is a driver, but `libtorch_cuda.so` of the libtorch in use was not found or did not
    /// load.
    #[error("torch 2.11's {NAME} cannot be loaded ({cause}); LD_LIBRARY_PATH or TORCH_CUDA_LIB must name its folder")]
    NotLoaded {
        /// The messages of the dynamic loader, one for each place that was tried.
        cause: String,
    },
    /// The library is loaded, but CUDA reports no device.
    #[error("{NAME} is loaded, but CUDA finds no device that it can use")]
    NoDevice,
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

/// Returns whether this machine has an NVIDIA driver.
pub fn has_driver() -> bool {
    DRIVER_FILES.iter().any(|path| Path::new(path).exists())
}

fn try_to_load(folders: &[PathBuf]) -> Result<(), Unavailable> {
    // The library holds half a gigabyte of kernels: it is not loaded on a machine without a GPU.
    // One that is linked, or loaded already, is used all the same.
    let has_driver = has_driver();
    if has_driver {
        let configured = std::env::var_os("TORCH_CUDA_LIB").map(PathBuf::from);
        open_first(&candidates(configured, folders))?;
    }
    match (tch::Cuda::is_available(), has_driver) {
        (true, _) => Ok(()),
        (false, true) => Err(Unavailable::NoDevice),
        (false, false) => Err(Unavailable::NoDriver),
    }
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
    fn the_first_call_decides_for_the_process() {
        let first = load_from(&[]);
        assert_eq!(load_from(&["/elsewhere".into()]), first);
        assert_eq!(load(), first.is_ok());
        assert!(has_driver() || first != Err(Unavailable::NoDevice));
    }
}
