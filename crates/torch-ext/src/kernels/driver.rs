//! The few calls of the CUDA driver that launching takes, from the `libcuda.so.1` that every GPU
//! machine has.

use crate::{Error, shim};
use libloading::os::unix::Symbol;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

type Status = c_int;

/// A compiled function inside a loaded module: a `CUfunction`, valid as long as the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle(usize);

#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) blocks: i64,
    pub(super) threads: u32,
}

/// A kernel's argument.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    Pointer(*mut c_void),
    Long(i64),
    Float(f32),
    /// A struct passed by value, of 4-byte fields.
    Words(Vec<u32>),
}

struct Driver {
    device_get: Symbol<unsafe extern "C" fn(*mut c_int, c_int) -> Status>,
    device_attribute: Symbol<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Status>,
    retain_context: Symbol<unsafe extern "C" fn(*mut *mut c_void, c_int) -> Status>,
    current_context: Symbol<unsafe extern "C" fn(*mut *mut c_void) -> Status>,
    set_context: Symbol<unsafe extern "C" fn(*mut c_void) -> Status>,
    load_module: Symbol<unsafe extern "C" fn(*mut *mut c_void, *const c_void) -> Status>,
    get_function: Symbol<unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> Status>,
    #[allow(clippy::type_complexity)]
    launch: Symbol<
        unsafe extern "C" fn(
            *mut c_void,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            c_uint,
            *mut c_void,
            *mut *mut c_void,
            *mut *mut c_void,
        ) -> Status,
    >,
    error_string: Symbol<unsafe extern "C" fn(Status, *mut *const c_char) -> Status>,
}

fn driver() -> Result<&'static Driver, Error> {
    static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
    let load = || {
        crate::cuda::open_library(&["libcuda.so.1"], |library| {
            // SAFETY: names and signatures are those of cuda.h.
            unsafe {
                Ok(Driver {
                    device_get: library.get(b"cuDeviceGet\0")?,
                    device_attribute: library.get(b"cuDeviceGetAttribute\0")?,
                    retain_context: library.get(b"cuDevicePrimaryCtxRetain\0")?,
                    current_context: library.get(b"cuCtxGetCurrent\0")?,
                    set_context: library.get(b"cuCtxSetCurrent\0")?,
                    load_module: library.get(b"cuModuleLoadData\0")?,
                    get_function: library.get(b"cuModuleGetFunction\0")?,
                    launch: library.get(b"cuLaunchKernel\0")?,
                    error_string: library.get(b"cuGetErrorString\0")?,
                })
            }
        })
    };
    DRIVER.get_or_init(load).as_ref().map_err(|message| Error::Kernel { kernel: "driver", message: message.clone() })
}

impl Driver {
    fn check(&self, kernel: &'static str, call: &str, status: Status) -> Result<(), Error> {
        if status == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: on success `text` points to a string with the life of the process.
        let text = unsafe {
            if (self.error_string)(status, &mut text) == 0 && !text.is_null() {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            } else {
                "unknown".to_owned()
            }
        };
        Err(Error::Kernel { kernel, message: format!("{call}: {text} ({status})") })
    }

    /// Runs `body` with the device's primary context, the one torch uses.
    fn within<R>(
        &self,
        kernel: &'static str,
        device: usize,
        body: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        static CONTEXTS: std::sync::Mutex<Vec<(usize, usize)>> = std::sync::Mutex::new(Vec::new());
        let mut contexts = CONTEXTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = contexts.iter().find(|(index, _)| *index == device).map(|(_, context)| *context);
        let wanted = match known {
            Some(context) => context as *mut c_void,
            None => {
                let mut context = std::ptr::null_mut();
                let ordinal = self.ordinal(kernel, device)?;
                // SAFETY: the pointer is valid for the call. Retained for the life of the process.
                let status = unsafe { (self.retain_context)(&mut context, ordinal) };
                self.check(kernel, "cuDevicePrimaryCtxRetain", status)?;
                contexts.push((device, context as usize));
                context
            }
        };
        drop(contexts);
        let mut current = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call, the contexts live as long as the process.
        unsafe {
            self.check(kernel, "cuCtxGetCurrent", (self.current_context)(&mut current))?;
            if current == wanted {
                return body();
            }
            self.check(kernel, "cuCtxSetCurrent", (self.set_context)(wanted))?;
            let result = body();
            if !current.is_null() {
                self.check(kernel, "cuCtxSetCurrent", (self.set_context)(current))?;
            }
            result
        }
    }

    fn ordinal(&self, kernel: &'static str, device: usize) -> Result<c_int, Error> {
        let mut ordinal = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (self.device_get)(&mut ordinal, c_int::try_from(device).unwrap_or(c_int::MAX)) };
        self.check(kernel, "cuDeviceGet", status)?;
        Ok(ordinal)
    }
}

/// Compute capability, 90 for 9.0.
pub(super) fn architecture(device: usize) -> Result<i32, Error> {
    const MAJOR: c_int = 75;
    const MINOR: c_int = 76;
    let driver = driver()?;
    let ordinal = driver.ordinal("driver", device)?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the pointers are valid for the calls.
    unsafe {
        driver.check("driver", "cuDeviceGetAttribute", (driver.device_attribute)(&mut major, MAJOR, ordinal))?;
        driver.check("driver", "cuDeviceGetAttribute", (driver.device_attribute)(&mut minor, MINOR, ordinal))?;
    }
    Ok(major * 10 + minor)
}

/// Loads machine code, for good.
pub(super) fn load(device: usize, kernel: &'static str, code: &[u8]) -> Result<usize, Error> {
    let driver = driver()?;
    driver.within(kernel, device, || {
        let mut module = std::ptr::null_mut();
        // SAFETY: `code` is a whole ELF image, from the compiler or from a file whose length and
        // hash were checked.
        let status = unsafe { (driver.load_module)(&mut module, code.as_ptr().cast()) };
        driver.check(kernel, "cuModuleLoadData", status)?;
        Ok(module as usize)
    })
}

/// A function of a module that [`load`] gave.
pub(super) fn find(device: usize, kernel: &'static str, module: usize, name: &str) -> Result<Handle, Error> {
    let driver = driver()?;
    let name = CString::new(name).map_err(|error| Error::Kernel { kernel, message: error.to_string() })?;
    driver.within(kernel, device, || {
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is never unloaded, the name ends in NUL.
        let status = unsafe { (driver.get_function)(&mut function, module as *mut c_void, name.as_ptr()) };
        driver.check(kernel, "cuModuleGetFunction", status)?;
        Ok(Handle(function as usize))
    })
}

/// The native handle of the stream that torch's work on `device` goes to.
pub(crate) fn current_stream(device: usize) -> Result<*mut c_void, Error> {
    let mut stream = std::ptr::null_mut();
    // SAFETY: the pointer is valid for the call.
    let message = unsafe { shim::torch_ext_cuda_current_stream(device as i64, &mut stream) };
    shim::check("cuda_current_stream", message)?;
    Ok(stream)
}

/// Runs `body` with the primary context of `device`, the one torch uses; `what` names it in errors.
pub(crate) fn within<R>(
    what: &'static str,
    device: usize,
    body: impl FnOnce() -> Result<R, Error>,
) -> Result<R, Error> {
    driver()?.within(what, device, body)
}

/// Launches on torch's current stream.
pub(super) fn launch(
    device: usize,
    kernel: &'static str,
    function: Handle,
    grid: Grid,
    arguments: &[Argument],
) -> Result<(), Error> {
    let driver = driver()?;
    let stream = current_stream(device)?;
    let blocks =
        c_uint::try_from(grid.blocks).map_err(|_| Error::Kernel { kernel, message: "too many blocks".into() })?;
    let mut addresses: Vec<*mut c_void> = arguments
        .iter()
        .map(|argument| match argument {
            Argument::Pointer(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Argument::Long(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Argument::Float(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Argument::Words(words) => words.as_ptr().cast_mut().cast(),
        })
        .collect();
    driver.within(kernel, device, || {
        // SAFETY: one address an argument, of the types the kernel declares, alive during the call,
        // which copies them. The wrappers of this module have checked the extent of what device
        // pointers point to; tensors are freed in stream order.
        let status = unsafe {
            (driver.launch)(
                function.0 as *mut c_void,
                blocks,
                1,
                1,
                grid.threads,
                1,
                1,
                0,
                stream,
                addresses.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        driver.check(kernel, "cuLaunchKernel", status)
    })
}
