//! Declarations of the functions in `shim/`, and the conversion of their messages to errors.

use crate::Error;
use std::ffi::{CStr, c_char, c_ulonglong, c_void};
use tch::Tensor;

unsafe extern "C" {
    fn torch_ext_free(message: *mut c_char);
    pub(crate) fn torch_ext_flash_attention_forward(
        outputs: *mut *mut c_void,
        query: *const c_void,
        key: *const c_void,
        value: *const c_void,
        cumulative_lengths: *const c_void,
        longest: i64,
        window_left: i64,
        scale: f64,
    ) -> *mut c_char;
    pub(crate) fn torch_ext_cudnn_attention_forward(
        outputs: *mut *mut c_void,
        query: *const c_void,
        key: *const c_void,
        value: *const c_void,
        scale: f64,
    ) -> *mut c_char;
    pub(crate) fn torch_ext_pin_memory(outputs: *mut *mut c_void, tensor: *const c_void, index: i64) -> *mut c_char;
    pub(crate) fn torch_ext_cuda_memory(index: i64, current: *mut i64, peak: *mut i64) -> *mut c_char;
    pub(crate) fn torch_ext_cuda_synchronize(index: i64) -> *mut c_char;
    pub(crate) fn torch_ext_cuda_available(index: i64, bytes: *mut i64) -> *mut c_char;
    pub(crate) fn torch_ext_cuda_release_unused() -> *mut c_char;
    pub(crate) fn torch_ext_cuda_reset_peak(index: i64) -> *mut c_char;
    pub(crate) fn torch_ext_cuda_current_stream(index: i64, stream: *mut *mut c_void) -> *mut c_char;
    pub(crate) fn torch_ext_graph_new_pool(first: *mut c_ulonglong, second: *mut c_ulonglong) -> *mut c_char;
    pub(crate) fn torch_ext_graph_begin(
        index: i64,
        pool_first: c_ulonglong,
        pool_second: c_ulonglong,
        graph: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn torch_ext_graph_end(graph: *mut c_void) -> *mut c_char;
    pub(crate) fn torch_ext_graph_launch(graph: *mut c_void) -> *mut c_char;
    pub(crate) fn torch_ext_graph_free(graph: *mut c_void);
    pub(crate) fn torch_ext_allow_tf32() -> bool;
    pub(crate) fn torch_ext_set_allow_tf32(allow: bool) -> *mut c_char;
}

/// Calls a shim function that makes `N` tensors.
///
/// # Safety
/// When `call` returns null, it has written `N` pointers to new `at::Tensor`s, which nothing else
/// owns, to its argument.
pub(crate) unsafe fn new_tensors<const N: usize>(
    operation: &'static str,
    call: impl FnOnce(*mut *mut c_void) -> *mut c_char,
) -> Result<[Tensor; N], Error> {
    let mut outputs = [std::ptr::null_mut(); N];
    check(operation, call(outputs.as_mut_ptr()))?;
    // SAFETY: the caller guarantees it.
    Ok(outputs.map(|tensor| unsafe { Tensor::from_ptr(tensor.cast()) }))
}

/// Turns the message that a shim function returned into a result. Null means success.
pub(crate) fn check(operation: &'static str, message: *mut c_char) -> Result<(), Error> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null message is a NUL-terminated string from malloc that the caller frees,
    // once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        torch_ext_free(message);
        text
    };
    let message = text.lines().next().unwrap_or_default().to_owned();
    Err(Error::Torch { operation, message })
}
