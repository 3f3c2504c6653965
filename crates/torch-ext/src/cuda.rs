//! CUDA, loaded when the program starts rather than when it is built.
//!
//! The binary links only libtorch's CPU part. `libtorch_cuda.so` registers its kernels when it is
//! loaded, so loading it before the first tensor is made is all that a GPU needs. Where it is
//! looked for, in order: the folder in the environment variable `TORCH_CUDA_LIB`, the loader's own
//! path (`LD_LIBRARY_PATH`), and what `cargo xtask setup --cuda` left in the user's cache.

use crate::{Error, shim};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tch::Tensor;

/// Loads CUDA if this machine has it and says whether it can be used; the work is done once a
/// process.
pub fn load() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        // Loading comes first: libtorch remembers the answer to the first question about CUDA for
        // good.
        if has_driver() && !load_library() {
            return false;
        }
        tch::Cuda::is_available()
    })
}

/// Whether an NVIDIA driver is present. With a driver, [`load`] answering `false` means that
/// libtorch's CUDA half was not found.
pub fn has_driver() -> bool {
    // Half a gigabyte of kernels is not worth loading on a machine without a GPU.
    ["/dev/nvidiactl", "/dev/dxg"].iter().any(|path| std::path::Path::new(path).exists())
}

fn load_library() -> bool {
    const NAME: &str = "libtorch_cuda.so";
    let configured = std::env::var_os("TORCH_CUDA_LIB").map(|folder| PathBuf::from(folder).join(NAME));
    let cached = crate::cache_dir().map(|cache| cache.join("torch-2.11.0-cuda/torch/lib").join(NAME));
    let mut candidates = configured.into_iter().chain([PathBuf::from(NAME)]).chain(cached);
    candidates.any(|candidate| {
        // SAFETY: the library is libtorch's own CUDA half, made to be loaded beside the
        // libtorch_cpu.so that is already here; its initialisers register kernels. It is never
        // unloaded.
        match unsafe { Library::open(Some(&candidate), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                true
            }
            Err(_) => false,
        }
    })
}

/// What `entries` takes from a library of CUDA, from the first of its candidates that can be opened
/// and has them all. It is never unloaded.
pub(crate) fn open_library<T>(
    names: &[&str],
    entries: impl Fn(&Library) -> Result<T, libloading::Error>,
) -> Result<T, String> {
    let mut message = "it has no name".to_owned();
    for path in library_candidates(names) {
        // SAFETY: a library of the CUDA that libtorch itself loads; initialisers of those touch
        // nothing but themselves.
        let opened = unsafe { Library::open(Some(&path), RTLD_NOW) }.and_then(|library| {
            let found = entries(&library)?;
            std::mem::forget(library);
            Ok(found)
        });
        match opened {
            Ok(found) => return Ok(found),
            // The loader's own words are in the source.
            Err(error) => message = error.source().map_or_else(|| error.to_string(), ToString::to_string),
        }
    }
    Err(message)
}

/// Where a library of the CUDA toolkit may lie, by its names in order of preference: in the wheels
/// beside the libtorch in use, in libtorch's own folder, on the loader's path.
fn library_candidates<'a>(names: &'a [&str]) -> impl Iterator<Item = PathBuf> + use<'a> {
    const WHEELS: [&str; 4] =
        ["../../nvidia/cu13/lib", "../../nvidia/cuda_nvrtc/lib", "../../nvidia/cusolver/lib", "."];
    let torch = torch_folder();
    let folders = torch.into_iter().flat_map(|lib| WHEELS.map(|relative| lib.join(relative)));
    let beside = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    beside.filter(|path| path.exists()).chain(names.iter().map(PathBuf::from))
}

/// The folder that `libtorch_cuda.so` was loaded from.
fn torch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cuda.so"))?;
    let path = line.find('/').map(|at| &line[at..])?;
    Path::new(path).parent().map(Path::to_owned)
}

/// Bytes held by tensors on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub current_bytes: u64,
    /// The most since the process began or [`reset_peak_memory`].
    pub peak_bytes: u64,
}

/// What tensors hold on CUDA device `index`.
///
/// # Errors
/// [`Error::Torch`] without CUDA or when there is no such device.
pub fn memory(index: usize) -> Result<Memory, Error> {
    let (mut current, mut peak) = (0, 0);
    // SAFETY: both pointers are valid for the call.
    let message = unsafe { shim::torch_ext_cuda_memory(device_index(index), &mut current, &mut peak) };
    shim::check("cuda_memory", message)?;
    Ok(Memory { current_bytes: u64::try_from(current).unwrap_or(0), peak_bytes: u64::try_from(peak).unwrap_or(0) })
}

/// Bytes that tensors could still take on CUDA device `index`. Other processes may take them first.
///
/// # Errors
/// [`Error::Torch`] without CUDA or when there is no such device.
pub fn available_memory(index: usize) -> Result<u64, Error> {
    let mut bytes = 0;
    // SAFETY: the pointer is valid for the call.
    let message = unsafe { shim::torch_ext_cuda_available(device_index(index), &mut bytes) };
    shim::check("cuda_available", message)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Gives back to the driver what libtorch holds unused on all CUDA devices. It waits for them, and
/// memory taken later costs more time.
///
/// # Errors
/// [`Error::Torch`] without CUDA.
pub fn release_unused_memory() -> Result<(), Error> {
    // SAFETY: takes no pointer.
    shim::check("cuda_release_unused", unsafe { shim::torch_ext_cuda_release_unused() })
}

/// Starts the peak of [`memory`] anew.
///
/// # Errors
/// [`Error::Torch`] without CUDA or when there is no such device.
pub fn reset_peak_memory(index: usize) -> Result<(), Error> {
    // SAFETY: takes no pointer.
    let message = unsafe { shim::torch_ext_cuda_reset_peak(device_index(index)) };
    shim::check("cuda_reset_peak", message)
}

/// A tensor's values in host memory that CUDA device `index` reads by itself while the host goes
/// on: a copy, unless they are there already. tch's own call does the same and has libtorch warn of
/// it each time.
///
/// # Errors
/// [`Error::Torch`] without CUDA, or when a device's index is out of range.
pub fn pinned(tensor: &Tensor, index: usize) -> Result<Tensor, Error> {
    // SAFETY: the pointer is that of a live `at::Tensor` for the length of the call, which makes
    // one.
    let [copy] = unsafe {
        shim::new_tensors("pin_memory", |outputs| {
            shim::torch_ext_pin_memory(outputs, tensor.as_ptr().cast(), device_index(index))
        })?
    };
    Ok(copy)
}

/// While it lives, float32 matrix products on CUDA round their operands to TF32: 10 bits of
/// mantissa, sums in float32, and several times the speed. What was set before comes back when it
/// is dropped. It holds for the whole process.
#[derive(Debug)]
pub struct AllowTf32 {
    before: bool,
}

impl AllowTf32 {
    /// Allows it.
    ///
    /// # Errors
    /// [`Error::Torch`] when libtorch refuses.
    pub fn new() -> Result<Self, Error> {
        // SAFETY: takes no pointer.
        let before = unsafe { shim::torch_ext_allow_tf32() };
        set_allow_tf32(true)?;
        Ok(Self { before })
    }
}

impl Drop for AllowTf32 {
    fn drop(&mut self) {
        // What could be allowed can be disallowed.
        let _ = set_allow_tf32(self.before);
    }
}

fn set_allow_tf32(allow: bool) -> Result<(), Error> {
    // SAFETY: takes no pointer.
    shim::check("set_allow_tf32", unsafe { shim::torch_ext_set_allow_tf32(allow) })
}

/// Waits until device `index` has done all that was asked of it. tch's own call panics where this
/// returns an error.
///
/// # Errors
/// [`Error::Torch`] with the error of any work done since the last wait, or without CUDA.
pub fn synchronize(index: usize) -> Result<(), Error> {
    // SAFETY: takes no pointer.
    let message = unsafe { shim::torch_ext_cuda_synchronize(device_index(index)) };
    shim::check("cuda_synchronize", message)
}

fn device_index(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_opened_by_the_name_that_exists_and_with_all_entries() {
        type Function = extern "C" fn(f64) -> f64;
        // SAFETY: the name and the signature are those of math.h.
        let entry =
            |name: &'static [u8]| move |library: &Library| unsafe { library.get::<Function>(name).map(|f| f(0.0)) };
        let names = ["libno-such-library.so.1", "libm.so.6"];
        assert_eq!(open_library(&names, entry(b"cos\0")), Ok(1.0));
        let lacking = open_library(&names, entry(b"no_such_entry\0")).unwrap_err();
        assert!(lacking.contains("no_such_entry"), "{lacking}");
        assert!(open_library(&names[..1], entry(b"cos\0")).unwrap_err().contains("libno-such-library"));
    }

    #[test]
    fn statistics_without_cuda_are_an_error() {
        if !load() {
            assert!(memory(0).is_err());
            assert!(reset_peak_memory(0).is_err());
            assert!(available_memory(0).is_err());
            assert!(synchronize(0).is_err());
            assert!(release_unused_memory().is_err());
        }
    }

    #[test]
    fn what_is_pinned_is_the_same_and_without_cuda_an_error() {
        // First, as whoever asks libtorch for CUDA before it is loaded will never have it.
        let has_cuda = load();
        let tensor = Tensor::from_slice(&[3i64, 1, 4]);
        match pinned(&tensor, 0) {
            Ok(copy) => assert!(has_cuda && copy.data_ptr() != tensor.data_ptr() && copy.equal(&tensor)),
            Err(error) => assert!(!has_cuda && error.to_string().starts_with("pin_memory: "), "{error}"),
        }
    }
}
