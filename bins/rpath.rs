//! Puts the folder of libtorch's libraries into the run path of the programs here and of the
//! whole-program tests, so that they start without `LD_LIBRARY_PATH`.
//!
//! A build for this machine names the folder itself. A build to install sets [`INSTALLED`] to a run
//! path that is relative to the program, because the builder's folders mean nothing to other users
//! and on other machines.

use std::env;
use std::path::PathBuf;

/// The variable with the run path of the installed program, such as
/// `$ORIGIN/../lib/train_and_save`.
const INSTALLED: &str = "INSTALLED_RUN_PATH";

fn main() {
    println!("cargo:rerun-if-env-changed={INSTALLED}");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Some(run_path) = env::var_os(INSTALLED) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", run_path.display());
        return;
    }
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else { return };
    // The real folder: a link in the checkout may be gone when the binary runs.
    let lib = std::fs::canonicalize(&lib).unwrap_or(lib);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
