//! The calls of the CUDA driver that a launch needs, from `libcuda.so.1`, which every machine with
//! an NVIDIA driver has.

use crate::cuda::library::foreign_library;
use crate::{Error, shim};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

/// Zero for success. An integer and not an enum: a newer driver has codes of its own.
type Status = c_int;
type Device = c_int;
type Context = *mut c_void;
type Module = *mut c_void;
type Function = *mut c_void;

/// Every function may have this much dynamic shared memory. For more, it must be asked.
const SHARED_BYTES_WITHOUT_ASKING: u32 = 48 << 10;

/// A compiled function of a loaded module (a `CUfunction`), which lives as long as the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle(usize);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Grid {
    pub(super) blocks: i64,
    pub(super) threads: u32,
    /// Dynamic shared memory of a block. At most [`shared_memory_bytes`].
    pub(super) shared_bytes: u32,
}

/// An argument of a kernel.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    Pointer(*mut c_void),
    Long(i64),
    Float(f32),
    /// A struct passed by value, of 4-byte fields.
    Words(Vec<u32>),
}

foreign_library! {
    /// The functions of cuda.h that are needed.
    struct Driver, names ["libcuda.so.1"], like cudarc::driver::sys;
    fn cuDeviceGet(device: *mut Device, ordinal: c_int) -> Status;
    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: Device) -> Status;
    fn cuDevicePrimaryCtxRetain(context: *mut Context, device: Device) -> Status;
    fn cuCtxGetCurrent(context: *mut Context) -> Status;
    fn cuCtxSetCurrent(context: Context) -> Status;
    fn cuModuleLoadData(module: *mut Module, image: *const c_void) -> Status;
    fn cuModuleGetFunction(function: *mut Function, module: Module, name: *const c_char) -> Status;
    fn cuFuncSetAttribute(function: Function, attribute: c_int, value: c_int) -> Status;
    fn cuLaunchKernel(
        function: Function,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: *mut c_void,
        arguments: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> Status;
    fn cuGetErrorString(status: Status, text: *mut *const c_char) -> Status;
}

fn driver() -> Result<&'static Driver, Error> {
    static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
    let driver = DRIVER.get_or_init(Driver::open);
    driver.as_ref().map_err(|message| Error::Kernel { kernel: "driver", message: message.clone() })
}

impl Driver {
    fn check(&self, kernel: &'static str, call: &str, status: Status) -> Result<(), Error> {
        if status == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: on success `text` points to a string that lives as long as the process.
        let text = unsafe {
            if self.cuGetErrorString(status, &mut text) == 0 && !text.is_null() {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            } else {
                "unknown".to_owned()
            }
        };
        Err(Error::Kernel { kernel, message: format!("{call}: {text} ({status})") })
    }

    /// Runs `body` with the device's primary context, which torch uses too.
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
                // SAFETY: the pointer is valid for the call. The context is never released.
                let status = unsafe { self.cuDevicePrimaryCtxRetain(&mut context, ordinal) };
                self.check(kernel, "cuDevicePrimaryCtxRetain", status)?;
                contexts.push((device, context as usize));
                context
            }
        };
        drop(contexts);
        let mut current = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call, the contexts live as long as the process.
        unsafe {
            self.check(kernel, "cuCtxGetCurrent", self.cuCtxGetCurrent(&mut current))?;
            if current == wanted {
                return body();
            }
            self.check(kernel, "cuCtxSetCurrent", self.cuCtxSetCurrent(wanted))?;
            let result = body();
            if !current.is_null() {
                self.check(kernel, "cuCtxSetCurrent", self.cuCtxSetCurrent(current))?;
            }
            result
        }
    }

    fn ordinal(&self, kernel: &'static str, device: usize) -> Result<c_int, Error> {
        let mut ordinal = 0;
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { self.cuDeviceGet(&mut ordinal, c_int::try_from(device).unwrap_or(c_int::MAX)) };
        self.check(kernel, "cuDeviceGet", status)?;
        Ok(ordinal)
    }
}

/// The compute capability: 90 for 9.0.
pub(super) fn architecture(device: usize) -> Result<i32, Error> {
    const MAJOR: c_int = 75;
    const MINOR: c_int = 76;
    Ok(attribute(device, MAJOR)? * 10 + attribute(device, MINOR)?)
}

/// The most shared memory that a block may ask for: 227 KiB on an H100, 48 KiB on old GPUs.
pub(super) fn shared_memory_bytes(device: usize) -> Result<u32, Error> {
    const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: c_int = 97;
    Ok(attribute(device, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?.unsigned_abs())
}

fn attribute(device: usize, attribute: c_int) -> Result<i32, Error> {
    let driver = driver()?;
    let ordinal = driver.ordinal("driver", device)?;
    let mut value = 0;
    // SAFETY: the pointer is valid for the call.
    let status = unsafe { driver.cuDeviceGetAttribute(&mut value, attribute, ordinal) };
    driver.check("driver", "cuDeviceGetAttribute", status)?;
    Ok(value)
}

/// Loads machine code. It is never unloaded.
pub(super) fn load(device: usize, kernel: &'static str, code: &[u8]) -> Result<usize, Error> {
    let driver = driver()?;
    driver.within(kernel, device, || {
        let mut module = std::ptr::null_mut();
        // SAFETY: `code` is a complete ELF image, from the compiler or from a file whose length and
        // hash were checked.
        let status = unsafe { driver.cuModuleLoadData(&mut module, code.as_ptr().cast()) };
        driver.check(kernel, "cuModuleLoadData", status)?;
        Ok(module as usize)
    })
}

/// Looks up a function of a module that [`load`] returned.
pub(super) fn find(device: usize, kernel: &'static str, module: usize, name: &str) -> Result<Handle, Error> {
    let driver = driver()?;
    let name = CString::new(name).map_err(|error| Error::Kernel { kernel, message: error.to_string() })?;
    driver.within(kernel, device, || {
        let mut function = std::ptr::null_mut();
        // SAFETY: the module is never unloaded, the name ends in NUL.
        let status = unsafe { driver.cuModuleGetFunction(&mut function, module as *mut c_void, name.as_ptr()) };
        driver.check(kernel, "cuModuleGetFunction", status)?;
        Ok(Handle(function as usize))
    })
}

/// The native handle of torch's current stream on `device`.
pub(crate) fn current_stream(device: usize) -> Result<*mut c_void, Error> {
    let mut stream = std::ptr::null_mut();
    // SAFETY: the pointer is valid for the call.
    let message = unsafe { shim::torch_ext_cuda_current_stream(device as i64, &mut stream) };
    shim::check("cuda_current_stream", message)?;
    Ok(stream)
}

/// Runs `body` with the primary context of `device`, which torch uses too. Errors name `what`.
pub(crate) fn within<R>(
    what: &'static str,
    device: usize,
    body: impl FnOnce() -> Result<R, Error>,
) -> Result<R, Error> {
    driver()?.within(what, device, body)
}

/// Launches a function on torch's current stream.
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
        if grid.shared_bytes > SHARED_BYTES_WITHOUT_ASKING {
            const MAX_DYNAMIC_SHARED_SIZE_BYTES: c_int = 8;
            let bytes = c_int::try_from(grid.shared_bytes).unwrap_or(c_int::MAX);
            // SAFETY: the function lives as long as the process.
            let status =
                unsafe { driver.cuFuncSetAttribute(function.0 as *mut c_void, MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes) };
            driver.check(kernel, "cuFuncSetAttribute", status)?;
        }
        // SAFETY: there is one address for each argument, of the types that the kernel declares.
        // The arguments live during the call, which copies them. The callers have checked the size
        // of the memory behind device pointers. Tensors are freed in stream order.
        let status = unsafe {
            driver.cuLaunchKernel(
                function.0 as *mut c_void,
                blocks,
                1,
                1,
                grid.threads,
                1,
                1,
                grid.shared_bytes,
                stream,
                addresses.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        driver.check(kernel, "cuLaunchKernel", status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_header() {
        Driver::assert_signatures();
    }
}
