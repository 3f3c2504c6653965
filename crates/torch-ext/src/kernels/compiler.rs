//! NVRTC: from source text to machine code, kept in memory and on disk.

use super::driver::{self, Handle};
use super::{COMMON, Source, Width};
use crate::Error;
use libloading::os::unix::Symbol;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::ffi::{CString, c_char, c_int, c_void};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use tch::Kind;

/// Whether kernels can be compiled for this device and loaded there. Tried once.
pub(super) fn works(device: usize) -> bool {
    static KNOWN: Mutex<Vec<(usize, bool)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, works)) = known.iter().find(|(index, _)| *index == device) {
        return *works;
    }
    let switched_off = std::env::var_os("TORCH_EXT_KERNELS").is_some_and(|value| value == "off");
    let works = !switched_off
        && match function(device, &PROBE, "probe") {
            Ok(_) => true,
            Err(error) => {
                eprintln!("warning: no fused kernels on GPU {device}, which is slower: {error}");
                false
            }
        };
    known.push((device, works));
    works
}

const PROBE: Source<'static> = Source {
    name: "probe",
    text: "extern \"C\" __global__ void probe(T* x) { narrow(rounded(wide(x[threadIdx.x])), x[threadIdx.x]); }\n",
    kind: Kind::BFloat16,
    width: Width(1),
    definitions: &[],
};

/// A function of `source` for this device, compiled unless it has been before.
pub(super) fn function(device: usize, source: &Source<'_>, name: &'static str) -> Result<Handle, Error> {
    type Key = (usize, &'static str, &'static str, bool, i64, Vec<i64>);
    static FUNCTIONS: OnceLock<Mutex<HashMap<Key, Handle>>> = OnceLock::new();
    let values = source.definitions.iter().map(|(_, value)| *value).collect();
    let key = (device, source.name, name, source.kind == Kind::BFloat16, source.width.0, values);
    let mut functions = FUNCTIONS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = functions.get(&key) {
        return Ok(*handle);
    }
    let handle = driver::find(device, source.name, module(device, source)?, name)?;
    functions.insert(key, handle);
    Ok(handle)
}

fn module(device: usize, source: &Source<'_>) -> Result<usize, Error> {
    static MODULES: Mutex<Vec<(usize, u64, usize)>> = Mutex::new(Vec::new());
    let architecture = driver::architecture(device)?;
    let options = options(source, architecture);
    let hash = hash(source, &options);
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., module)) = modules.iter().find(|(index, known, _)| (*index, *known) == (device, hash)) {
        return Ok(*module);
    }
    let file = crate::cache_dir()
        .map(|cache| cache.join("kernels").join(format!("{}-{hash:016x}-sm_{architecture}", source.name)));
    // What the driver refuses, a file cut short for one, is compiled anew.
    let cached = file.as_deref().and_then(read).and_then(|code| driver::load(device, source.name, &code).ok());
    let module = match cached {
        Some(module) => module,
        None => {
            let code = compile(source, &options)?;
            if let Some(file) = &file {
                // Without a cache it is compiled in every run, which works as well.
                let _ = write(file, &code);
            }
            driver::load(device, source.name, &code)?
        }
    };
    modules.push((device, hash, module));
    Ok(module)
}

fn options(source: &Source<'_>, architecture: i32) -> Vec<String> {
    let mut options = vec![
        format!("--gpu-architecture=sm_{architecture}"),
        "--std=c++17".to_owned(),
        format!("-DBF16={}", i32::from(source.kind == Kind::BFloat16)),
        format!("-DVEC={}", source.width.0),
    ];
    options.extend(source.definitions.iter().map(|(name, value)| format!("-D{name}={value}")));
    options
}

fn hash(source: &Source<'_>, options: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), COMMON, source.text, options).hash(&mut hasher);
    hasher.finish()
}

/// The code in a cache file, if its length and hash are what was written in front of it.
fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(file).ok()?;
    let (header, code) = bytes.split_at_checked(16)?;
    (header == head(code)).then(|| code.to_vec())
}

/// Writes beside and renames, so that another process sees all or nothing.
fn write(file: &Path, code: &[u8]) -> std::io::Result<()> {
    let beside = file.with_extension(format!("{}.partial", std::process::id()));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&beside, [&head(code)[..], code].concat())?;
    std::fs::rename(&beside, file)
}

fn head(code: &[u8]) -> [u8; 16] {
    let mut hasher = DefaultHasher::new();
    code.hash(&mut hasher);
    let mut head = [0; 16];
    head[..8].copy_from_slice(&(code.len() as u64).to_le_bytes());
    head[8..].copy_from_slice(&hasher.finish().to_le_bytes());
    head
}

type Program = *mut c_void;
type Status = c_int;

struct Compiler {
    #[allow(clippy::type_complexity)]
    create: Symbol<
        unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> Status,
    >,
    compile: Symbol<unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status>,
    code_size: Symbol<unsafe extern "C" fn(Program, *mut usize) -> Status>,
    code: Symbol<unsafe extern "C" fn(Program, *mut c_char) -> Status>,
    log_size: Symbol<unsafe extern "C" fn(Program, *mut usize) -> Status>,
    log: Symbol<unsafe extern "C" fn(Program, *mut c_char) -> Status>,
    destroy: Symbol<unsafe extern "C" fn(*mut Program) -> Status>,
}

fn compiler() -> Result<&'static Compiler, Error> {
    const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
    static COMPILER: OnceLock<Result<Compiler, String>> = OnceLock::new();
    let load = || {
        crate::cuda::open_library(&NAMES, |library| {
            // SAFETY: names and signatures are those of nvrtc.h.
            unsafe {
                Ok(Compiler {
                    create: library.get(b"nvrtcCreateProgram\0")?,
                    compile: library.get(b"nvrtcCompileProgram\0")?,
                    code_size: library.get(b"nvrtcGetCUBINSize\0")?,
                    code: library.get(b"nvrtcGetCUBIN\0")?,
                    log_size: library.get(b"nvrtcGetProgramLogSize\0")?,
                    log: library.get(b"nvrtcGetProgramLog\0")?,
                    destroy: library.get(b"nvrtcDestroyProgram\0")?,
                })
            }
        })
    };
    COMPILER.get_or_init(load).as_ref().map_err(|message| Error::Kernel { kernel: "NVRTC", message: message.clone() })
}

fn compile(source: &Source<'_>, options: &[String]) -> Result<Vec<u8>, Error> {
    let failed = |message: String| Error::Kernel { kernel: source.name, message };
    let compiler = compiler()?;
    let text = |text: String| CString::new(text).map_err(|error| failed(error.to_string()));
    let (code, name) = (text(format!("{COMMON}\n{}", source.text))?, text(format!("{}.cu", source.name))?);
    let options = options.iter().map(|option| text(option.clone())).collect::<Result<Vec<_>, _>>()?;
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    let count = c_int::try_from(options.len()).unwrap_or(0);

    let mut program = std::ptr::null_mut();
    // SAFETY: all strings end in NUL and outlive the calls; buffers have the size NVRTC asked for;
    // the program is destroyed once.
    unsafe {
        let status =
            (compiler.create)(&mut program, code.as_ptr(), name.as_ptr(), 0, std::ptr::null(), std::ptr::null());
        if status != 0 {
            return Err(failed(format!("nvrtcCreateProgram: {status}")));
        }
        let fetch = |size: &Symbol<unsafe extern "C" fn(Program, *mut usize) -> Status>,
                     content: &Symbol<unsafe extern "C" fn(Program, *mut c_char) -> Status>| {
            let mut length = 0;
            if size(program, &mut length) != 0 {
                return None;
            }
            let mut bytes = vec![0u8; length];
            (content(program, bytes.as_mut_ptr().cast()) == 0).then_some(bytes)
        };
        let status = (compiler.compile)(program, count, options.as_ptr());
        let result = if status == 0 {
            fetch(&compiler.code_size, &compiler.code).ok_or_else(|| failed("nvrtcGetCUBIN failed".to_owned()))
        } else {
            let log = fetch(&compiler.log_size, &compiler.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).replace(['\n', '\0'], " ");
            Err(failed(format!("nvrtcCompileProgram: {status}: {}", log.trim())))
        };
        let _ = (compiler.destroy)(&mut program);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kernels/x-sm_90");
        assert!(read(&file).is_none());
        write(&file, b"machine code").unwrap();
        assert_eq!(read(&file).unwrap(), b"machine code");
        let bytes = std::fs::read(&file).unwrap();
        for cut in [0, 15, 20] {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            assert!(read(&file).is_none(), "{cut}");
        }
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn sources_that_differ_in_options_have_different_files() {
        let at = |architecture| hash(&PROBE, &options(&PROBE, architecture));
        assert_eq!(at(90), at(90));
        assert_ne!(at(90), at(80));
    }
}
