//! Provides libtorch for this clone.
//!
//! [`ensure`] makes the link `.libtorch` in the repository's root, which `.cargo/config.toml` sets
//! as `LIBTORCH`. The link points at the first of these:
//!
//! 1. what the user's `LIBTORCH` or `LIBTORCH_USE_PYTORCH` names;
//! 2. what the link pointed at before, if that is still a libtorch of the right version;
//! 3. the folder in the user's cache, which is made if it is missing.
//!
//! The cache holds:
//!
//! ```text
//! ~/.cache/train_and_save/
//!   setup.lock                       held while one clone sets up
//!   libtorch-2.11.0-cpu-x86_64/      include/, lib/, build-version (written last)
//!   libtorch-2.11.0-cpu-x86_64.part/ the wheels, and the unpacked folder until it is renamed to the above
//!   torch-2.11.0-cuda/               only after `setup --cuda`
//! ```
//!
//! A wheel that was downloaded completely is kept until all wheels are unpacked, so an interrupted
//! set-up does not download it again.

use crate::python::{self, Wheel};
use crate::shell;
use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libtorch that pairs with the tch of this workspace.
pub const VERSION: &str = "2.11.0";
/// PyTorch with CUDA in the user's cache. Programs look for it under this name.
const CUDA_FOLDER: &str = "torch-2.11.0-cuda";

/// Space for the wheels, the unpacked folder and pip's temporary files.
const NEEDED_BYTES: u64 = 2_000_000_000;

const WITHOUT_PIP: &str = "run this again once it can (complete downloads are kept), or set LIBTORCH=<folder of \
                           libtorch 2.11.0>, or LIBTORCH_USE_PYTORCH=1 with torch==2.11.0 in your Python";

/// torch has the headers and the libraries. Its libtorch_cpu.so links to the two other packages,
/// which need no GPU.
const X86_64: [Wheel; 3] = [
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.0.96",
        file_name: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        size_bytes: 2_243_632,
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    },
    Wheel {
        package: "nvidia-cuda-cupti",
        version: "13.0.85",
        file_name: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        size_bytes: 10_715_597,
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    },
    Wheel {
        package: "torch",
        version: VERSION,
        file_name: "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        size_bytes: 530_712_279,
        sha256: "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
    },
];

const AARCH64: [Wheel; 3] = [
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.0.96",
        file_name: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        size_bytes: 2_261_060,
        sha256: "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
    },
    Wheel {
        package: "nvidia-cuda-cupti",
        version: "13.0.85",
        file_name: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl",
        size_bytes: 10_310_827,
        sha256: "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
    },
    Wheel {
        package: "torch",
        version: VERSION,
        file_name: "torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64.whl",
        size_bytes: 419_731_115,
        sha256: "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f",
    },
];

/// Makes sure that this clone can be built; returns libtorch's folder.
pub fn ensure() -> Result<PathBuf> {
    check_compiler()?;
    let link = shell::root().join(".libtorch");
    if let Some(folder) = chosen_by_user(&link)? {
        point(&link, &folder)?;
        return Ok(folder);
    }
    if check_folder(&link).is_ok() {
        return Ok(fs::canonicalize(&link)?);
    }
    let folder = in_cache()?;
    point(&link, &folder)?;
    Ok(folder)
}

/// Installs PyTorch with CUDA into the user's cache. Programs look there for CUDA if they find it
/// nowhere else.
pub fn cuda() -> Result<()> {
    ensure()?;
    python::check_pip()?;
    let cache = cache_folder()?;
    let _lock = lock(&cache)?;
    let folder = cache.join(CUDA_FOLDER);
    let lib = folder.join("torch/lib");
    if !lib.join("libtorch_cuda.so").is_file() {
        let staging = cache.join(format!("torch-{VERSION}-cuda.part"));
        remove(&staging)?;
        remove(&folder)?;
        shell::step(&format!("PyTorch {VERSION} with CUDA (about 3 GB) by pip"), || {
            python::install(&format!("torch=={VERSION}"), &staging)
        })?;
        if !staging.join("torch/lib/libtorch_cuda.so").is_file() {
            bail!("the torch that pip chose has no CUDA; set TORCH_CUDA_LIB to the lib folder of one that has");
        }
        fs::rename(&staging, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    println!("CUDA libraries: {}", lib.display());
    Ok(())
}

/// The folder with CUDA's libraries, if [`cuda`] has installed them.
pub fn cuda_libraries() -> Option<PathBuf> {
    cache_folder().ok().map(|cache| cache.join(CUDA_FOLDER).join("torch/lib")).filter(|lib| lib.is_dir())
}

fn check_compiler() -> Result<()> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    // CXX may contain a wrapper and options.
    let mut words = compiler.split_whitespace();
    let program = words.next().unwrap_or("c++");
    if shell::output(Command::new(program).args(words).arg("--version")).is_none() {
        bail!("no C++ compiler ({compiler}): install g++ (Debian, Ubuntu: apt install g++) or set CXX");
    }
    Ok(())
}

/// The folder that the user's environment names. A LIBTORCH that is the link comes from cargo's
/// configuration and does not count as the user's choice.
fn chosen_by_user(link: &Path) -> Result<Option<PathBuf>> {
    if std::env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let (folder, version) = python::installed_torch()?;
        check_version(&version).context("LIBTORCH_USE_PYTORCH is set")?;
        return Ok(Some(folder));
    }
    match std::env::var_os("LIBTORCH").map(PathBuf::from) {
        Some(folder) if folder != link => {
            if folder.is_relative() {
                bail!("LIBTORCH={} must be an absolute path", folder.display());
            }
            check_folder(&folder).with_context(|| format!("LIBTORCH={}", folder.display()))?;
            Ok(Some(folder))
        }
        _ => Ok(None),
    }
}

/// Checks that `folder` is a libtorch of our version.
fn check_folder(folder: &Path) -> Result<()> {
    for part in ["include/ATen/ATen.h", "lib/libtorch_cpu.so", "lib/libc10.so"] {
        if !folder.join(part).is_file() {
            bail!("{part} is missing there: this is not a libtorch folder");
        }
    }
    // A libtorch archive has build-version, a Python package has version.py.
    match fs::read_to_string(folder.join("build-version")) {
        Ok(version) => check_version(version.trim()),
        Err(_) => match fs::read_to_string(folder.join("version.py")) {
            Ok(text) => {
                let version = text.lines().find_map(|line| line.strip_prefix("__version__ = "));
                check_version(version.unwrap_or("of unknown version").trim_matches(['\'', '"']))
            }
            Err(_) => bail!("it has neither build-version nor version.py, so its version is unknown"),
        },
    }
}

fn check_version(version: &str) -> Result<()> {
    if version.split('+').next() != Some(VERSION) {
        bail!("libtorch {version} found, {VERSION} needed");
    }
    Ok(())
}

/// Points the link at `folder`. An existing link is replaced atomically.
fn point(link: &Path, folder: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == folder) {
        return Ok(());
    }
    if link.is_dir() && !link.is_symlink() {
        bail!("{} is a folder, expected a link: move it away", link.display());
    }
    let staging = link.with_extension(format!("{}.part", std::process::id()));
    std::os::unix::fs::symlink(folder, &staging)
        .and_then(|()| fs::rename(&staging, link))
        .with_context(|| format!("cannot make the link {}", link.display()))
}

/// The folder of this project in the user's cache.
fn cache_folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        Some(base) if base.is_absolute() => base,
        _ => std::env::home_dir().context("no home folder: set HOME or XDG_CACHE_HOME")?.join(".cache"),
    };
    let folder = base.join("train_and_save");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Waits until no other clone runs the set-up. The lock ends with the returned file, or with the
/// process.
fn lock(cache: &Path) -> Result<fs::File> {
    let path = cache.join("setup.lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("another set-up is running, waiting for it");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Returns the folder of libtorch in the user's cache. Downloads and unpacks it if it is not there.
fn in_cache() -> Result<PathBuf> {
    let architecture = std::env::consts::ARCH;
    let wheels = match (std::env::consts::OS, architecture) {
        ("linux", "x86_64") => &X86_64,
        ("linux", "aarch64") => &AARCH64,
        (os, _) => bail!(
            "libtorch can be downloaded only for Linux on x86_64 and aarch64, this is {os} on {architecture}: \
             set LIBTORCH=<folder of libtorch {VERSION}>, or LIBTORCH_USE_PYTORCH=1 with torch=={VERSION} in your Python"
        ),
    };
    let cache = cache_folder()?;
    let folder = cache.join(format!("libtorch-{VERSION}-cpu-{architecture}"));
    if check_folder(&folder).is_ok() {
        return Ok(folder);
    }
    python::check_pip()?;
    let _lock = lock(&cache)?;
    if check_folder(&folder).is_ok() {
        return Ok(folder);
    }
    let staging = cache.join(format!("libtorch-{VERSION}-cpu-{architecture}.part"));
    fs::create_dir_all(&staging)?;
    clear_all_but(&staging, wheels)?;
    for wheel in wheels {
        fetch(wheel, architecture, &staging)?;
    }
    shell::step("unpacking libtorch", || unpack_wheels(wheels, &staging))?;
    remove(&folder)?;
    fs::rename(staging.join("libtorch"), &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    remove(&staging)?;
    Ok(folder)
}

/// Downloads `wheel` into `staging` unless it is already there and complete.
fn fetch(wheel: &Wheel, architecture: &str, staging: &Path) -> Result<()> {
    let path = staging.join(wheel.file_name);
    if path.is_file() {
        match check_sum(wheel, &path) {
            Ok(()) => return Ok(()),
            Err(_) => remove(&path)?,
        }
    }
    let free = python::free_bytes(staging)?;
    if free < NEEDED_BYTES {
        bail!(
            "{} has {:.1} GB free, the set-up needs {:.1} GB: free some space, or set XDG_CACHE_HOME to another folder",
            staging.display(),
            free as f64 / 1e9,
            NEEDED_BYTES as f64 / 1e9
        );
    }
    let platforms = ["manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"];
    let platforms = platforms.map(|name| format!("{name}_{architecture}"));
    let title = format!("{} {} ({:.0} MB) by pip", wheel.package, wheel.version, wheel.size_bytes as f64 / 1e6);
    shell::step(&title, || {
        python::download(wheel, &platforms, staging).map_err(|error| anyhow!("{error:#}; {WITHOUT_PIP}"))?;
        check_sum(wheel, &path).inspect_err(|_| drop(remove(&path)))
    })
}

fn check_sum(wheel: &Wheel, path: &Path) -> Result<()> {
    let mut file = fs::File::open(path).with_context(|| format!("pip did not download {}", wheel.file_name))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != wheel.sha256 {
        bail!("{}: SHA-256 {found} found, {} expected", wheel.file_name, wheel.sha256);
    }
    Ok(())
}

/// Unpacks the wheels into `staging/libtorch`, so that the folder only needs to be renamed.
fn unpack_wheels(wheels: &[Wheel], staging: &Path) -> Result<()> {
    let folder = staging.join("libtorch");
    for wheel in wheels {
        python::unpack(&staging.join(wheel.file_name), &folder)
            .with_context(|| format!("cannot unpack {}", wheel.file_name))?;
    }
    // torch-sys links with `-ltorch`, but the wheel's libtorch.so refers to the CUDA library. This
    // linker script takes its place; ld, gold and lld understand it.
    fs::write(folder.join("lib/libtorch.so"), "INPUT ( libtorch_cpu.so )\n")?;
    fs::write(folder.join("build-version"), format!("{VERSION}+cpu\n"))?;
    check_folder(&folder)
}

/// Removes what an interrupted set-up left in `staging`, except the wheels.
fn clear_all_but(staging: &Path, wheels: &[Wheel]) -> Result<()> {
    for entry in fs::read_dir(staging)? {
        let entry = entry?;
        if !wheels.iter().any(|wheel| entry.file_name() == wheel.file_name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, or a folder and everything in it. Does nothing if `path` does not exist.
pub fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    result.with_context(|| format!("cannot remove {}", path.display()))
}
