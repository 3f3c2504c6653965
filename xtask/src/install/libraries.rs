//! Which shared libraries a program needs, as the dynamic loader finds them.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// glibc and the runtime of the C++ compiler. The system has them, and those of another system
/// would not fit its dynamic loader.
const OF_THE_SYSTEM: [&str; 10] =
    ["libc", "libm", "libmvec", "libdl", "libpthread", "librt", "libutil", "libresolv", "libstdc++", "libgcc_s"];

/// A shared library that is not part of every system.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    /// The name that the loader looks for.
    pub name: String,
    /// The file, with links resolved.
    pub path: PathBuf,
}

/// The libraries that `program` loads when it starts, except those of the system. The loader also
/// looks in `folder`.
pub fn needed(program: &Path, folder: Option<&Path>) -> Result<Vec<Library>> {
    let mut command = Command::new(program);
    command.env_clear().env("LD_TRACE_LOADED_OBJECTS", "1");
    if let Some(folder) = folder {
        command.env("LD_LIBRARY_PATH", folder);
    }
    let trace = shell::output(&mut command)
        .with_context(|| format!("the dynamic loader cannot list the libraries of {}", program.display()))?;
    let mut libraries = not_of_the_system(&trace)?;
    for library in &mut libraries {
        library.path =
            fs::canonicalize(&library.path).with_context(|| format!("cannot read {}", library.path.display()))?;
    }
    Ok(libraries)
}

/// Reads lines of the loader, such as `libc10.so => /folder/libc10.so (0x00007f12)`. The loader
/// itself and the kernel's library have no arrow.
fn not_of_the_system(trace: &str) -> Result<Vec<Library>> {
    let mut libraries = Vec::new();
    for line in trace.lines() {
        let Some((name, place)) = line.trim().split_once(" => ") else { continue };
        if name.split(".so").next().is_some_and(|stem| stem.starts_with("ld-linux") || OF_THE_SYSTEM.contains(&stem)) {
            continue;
        }
        let Some((path, _)) = place.rsplit_once(" (0x") else {
            bail!("the library {name} is needed and not found");
        };
        libraries.push(Library { name: name.to_owned(), path: path.into() });
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_keeps_its_own_libraries() {
        let trace = "\tlinux-vdso.so.1 (0x00007ffd)
\tlibstdc++.so.6 => /lib/x86_64-linux-gnu/libstdc++.so.6 (0x00007f01)
\tlibtorch_cpu.so => /home/a user (x)/lib/libtorch_cpu.so (0x00007f02)
\tlibcudart.so.13 => /site/torch/lib/../../nvidia/cu13/lib/libcudart.so.13 (0x00007f03)
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f04)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f05)
\tld-linux-aarch64.so.1 => /lib/ld-linux-aarch64.so.1 (0x00007f06)";
        let found = not_of_the_system(trace).unwrap();
        let library = |name: &str, path: &str| Library { name: name.to_owned(), path: path.into() };
        assert_eq!(
            found,
            [
                library("libtorch_cpu.so", "/home/a user (x)/lib/libtorch_cpu.so"),
                library("libcudart.so.13", "/site/torch/lib/../../nvidia/cu13/lib/libcudart.so.13"),
            ]
        );
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = not_of_the_system("\tlibc10.so => not found\n").unwrap_err();
        assert_eq!(error.to_string(), "the library libc10.so is needed and not found");
        // A system that lacks a library of its own cannot run the program, and its loader says so.
        assert_eq!(not_of_the_system("\tlibstdc++.so.6 => not found\n").unwrap(), []);
    }

    #[test]
    fn the_loader_lists_the_libraries_of_a_program() {
        // This program needs nothing that a system lacks.
        assert_eq!(needed(&std::env::current_exe().unwrap(), None).unwrap(), []);
    }
}
