//! Functions that are ready to be launched: compiled, or read from disk, at their first use.

use super::driver::{self, Handle};
use super::{COMMON, Source, Width, cache, nvrtc};
use crate::Error;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, OnceLock, PoisonError};
use tch::Kind;

/// Whether kernels can be compiled for this device and loaded there. The first call tries it.
pub(super) fn works(device: usize) -> bool {
    static KNOWN: Mutex<Vec<(usize, bool)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, works)) = known.iter().find(|(index, _)| *index == device) {
        return *works;
    }
    let works = !super::switched_off()
        && match function(device, &PROBE, "probe") {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!("no fused kernels on GPU {device}, which is slower: {error}");
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

/// A function of `source` for this device. It is compiled if no earlier call has done so.
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
    let file = cache::file(&format!("{}-{hash:016x}-sm_{architecture}", source.name));
    // Code that the driver refuses is compiled again.
    let cached = file.as_deref().and_then(cache::read).and_then(|code| driver::load(device, source.name, &code).ok());
    let module = match cached {
        Some(module) => module,
        None => {
            let code = nvrtc::compile(source, &options)?;
            if let Some(file) = &file {
                // Code that cannot be kept is compiled in every run, which works as well.
                let _ = cache::write(file, &code);
            }
            driver::load(device, source.name, &code)?
        }
    };
    modules.push((device, hash, module));
    Ok(module)
}

pub(super) fn options(source: &Source<'_>, architecture: i32) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_differ_in_options_have_different_files() {
        let at = |architecture| hash(&PROBE, &options(&PROBE, architecture));
        assert_eq!(at(90), at(90));
        assert_ne!(at(90), at(80));
    }
}
