//! Compiles the C++ shim against libtorch's headers, and adds libtorch's folder to the run path of
//! this package's examples and tests, so that they start with no environment variable set.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-changed=shim");
    // Set by torch-sys. Documentation builds have no libtorch.
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        return;
    };
    // A link in a checkout is resolved: an installed program outlives the checkout.
    let run_path = fs::canonicalize(&lib).unwrap_or_else(|_| lib.clone());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", run_path.display());

    let include = env::var_os("LIBTORCH_INCLUDE").map_or_else(|| lib.join(".."), PathBuf::from).join("include");
    let cxx11_abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .warnings(false) // libtorch's headers warn
        .std("c++17")
        .include(include)
        .define("_GLIBCXX_USE_CXX11_ABI", cxx11_abi.as_str())
        .files(["shim/shim.cpp", "shim/graph.cpp"])
        .compile("torch_ext_shim");
}
