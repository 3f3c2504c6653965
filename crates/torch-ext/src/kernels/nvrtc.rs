//! NVRTC, the compiler that comes with a CUDA libtorch: from source text to machine code.

use super::{COMMON, Source};
use crate::Error;
use crate::cuda::library::foreign_library;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::OnceLock;

type Program = *mut c_void;
/// Zero for success. An integer and not an enum: a newer compiler has codes of its own.
type Status = c_int;

foreign_library! {
    /// The functions of nvrtc.h that are needed.
    struct Compiler, names ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"], like cudarc::nvrtc::sys;
    fn nvrtcCreateProgram(
        program: *mut Program,
        source: *const c_char,
        name: *const c_char,
        num_headers: c_int,
        headers: *const *const c_char,
        header_names: *const *const c_char,
    ) -> Status;
    fn nvrtcCompileProgram(program: Program, num_options: c_int, options: *const *const c_char) -> Status;
    fn nvrtcGetCUBINSize(program: Program, bytes: *mut usize) -> Status;
    fn nvrtcGetCUBIN(program: Program, code: *mut c_char) -> Status;
    fn nvrtcGetProgramLogSize(program: Program, bytes: *mut usize) -> Status;
    fn nvrtcGetProgramLog(program: Program, log: *mut c_char) -> Status;
    fn nvrtcDestroyProgram(program: *mut Program) -> Status;
}

fn compiler() -> Result<&'static Compiler, Error> {
    static COMPILER: OnceLock<Result<Compiler, String>> = OnceLock::new();
    let compiler = COMPILER.get_or_init(Compiler::open);
    compiler.as_ref().map_err(|message| Error::Kernel { kernel: "NVRTC", message: message.clone() })
}

/// Compiles `source`, with the common part in front of it.
pub(super) fn compile(source: &Source<'_>, options: &[String]) -> Result<Vec<u8>, Error> {
    let failed = |message: String| Error::Kernel { kernel: source.name, message };
    let compiler = compiler()?;
    let text = |text: String| CString::new(text).map_err(|error| failed(error.to_string()));
    let (code, name) = (text(format!("{COMMON}\n{}", source.text))?, text(format!("{}.cu", source.name))?);
    let options = options.iter().map(|option| text(option.clone())).collect::<Result<Vec<_>, _>>()?;
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let count = c_int::try_from(options.len()).unwrap_or(0);

    let mut program = std::ptr::null_mut();
    // SAFETY: the strings end in NUL and outlive the call.
    let status = unsafe {
        compiler.nvrtcCreateProgram(&mut program, code.as_ptr(), name.as_ptr(), 0, std::ptr::null(), std::ptr::null())
    };
    if status != 0 {
        return Err(failed(format!("nvrtcCreateProgram: {status}")));
    }
    // SAFETY: the program was created above and the options outlive the call.
    let status = unsafe { compiler.nvrtcCompileProgram(program, count, options.as_ptr()) };
    let result = if status == 0 {
        compiler.code(program).ok_or_else(|| failed("nvrtcGetCUBIN failed".to_owned()))
    } else {
        let log = compiler.log(program).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).replace(['\n', '\0'], " ");
        Err(failed(format!("nvrtcCompileProgram: {status}: {}", log.trim())))
    };
    // SAFETY: the program is destroyed once and not used afterwards.
    let _ = unsafe { compiler.nvrtcDestroyProgram(&mut program) };
    result
}

impl Compiler {
    /// The machine code of a program that was compiled.
    fn code(&self, program: Program) -> Option<Vec<u8>> {
        let mut length = 0;
        // SAFETY: the program exists; the buffer has the size that NVRTC asks for.
        unsafe {
            (self.nvrtcGetCUBINSize(program, &mut length) == 0).then_some(())?;
            let mut bytes = vec![0u8; length];
            (self.nvrtcGetCUBIN(program, bytes.as_mut_ptr().cast()) == 0).then_some(bytes)
        }
    }

    /// The compiler's messages.
    fn log(&self, program: Program) -> Option<Vec<u8>> {
        let mut length = 0;
        // SAFETY: the program exists; the buffer has the size that NVRTC asks for.
        unsafe {
            (self.nvrtcGetProgramLogSize(program, &mut length) == 0).then_some(())?;
            let mut bytes = vec![0u8; length];
            (self.nvrtcGetProgramLog(program, bytes.as_mut_ptr().cast()) == 0).then_some(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Width, functions};
    use super::*;
    use tch::Kind;

    #[test]
    fn signatures_are_those_of_the_header() {
        Compiler::assert_signatures();
    }

    /// Needs NVRTC, but no GPU.
    #[test]
    fn every_kernel_compiles_in_every_variant() {
        if compiler().is_err() {
            return;
        }
        let adam =
            [0, 1, 2, 3].map(|format| [0, 1].map(|narrow| vec![("WEIGHT_FORMAT", format), ("NARROW_MOMENTS", narrow)]));
        let wide_table = [0, 1].map(|wide| vec![("WIDE_TABLE", wide)]);
        let gains = [[0, 0], [1, 0], [1, 1]];
        let widths = [(7, 128), (1024, 128), (16384, 512)].map(|(d, threads)| {
            gains.map(|[wide, offset]| vec![("D", d), ("THREADS", threads), ("WIDE", wide), ("OFFSET", offset)])
        });
        let activations = [0, 1].map(|tanh| vec![("GELU_TANH", tanh)]);
        let kernels = [
            ("adam", include_str!("adam/kernel.cu"), adam.concat()),
            ("column_sum", include_str!("column_sum/kernel.cu"), vec![vec![]]),
            ("cross_entropy", include_str!("cross_entropy/kernel.cu"), vec![vec![]]),
            ("embedding", include_str!("embedding/kernel.cu"), wide_table.to_vec()),
            ("norm", include_str!("norm/kernel.cu"), vec![vec![]]),
            ("rms_norm", include_str!("rms_norm/kernel.cu"), widths.concat()),
            ("rope", include_str!("rope/kernel.cu"), vec![vec![]]),
            ("swiglu", include_str!("swiglu/kernel.cu"), activations.to_vec()),
        ];
        for (name, text, variants) in kernels {
            for (kind, widest) in [(Kind::Float, 4), (Kind::BFloat16, 8)] {
                for definitions in &variants {
                    for width in [1, widest] {
                        let source = Source { name, text, kind, width: Width(width), definitions };
                        let options = functions::options(&source, 90);
                        let code = compile(&source, &options).unwrap();
                        assert!(code.starts_with(b"\x7fELF"), "{name} {options:?}");
                    }
                }
            }
        }
        let source = Source { name: "wrong", text: "no code", kind: Kind::Float, width: Width(1), definitions: &[] };
        let message = compile(&source, &functions::options(&source, 90)).unwrap_err().to_string();
        assert!(message.contains("wrong.cu") && message.contains("error"), "{message}");
    }
}
