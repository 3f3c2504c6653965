//! Compiles the C++ shim against libtorch's headers, and puts libtorch's folder into the run path.

#[path = "rpath.rs"]
mod rpath;

fn main() {
    rpath::main();
    println!("cargo:rerun-if-changed=shim");
    let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        return; // documentation builds without libtorch
    };
    let root = std::path::Path::new(&lib).join("..");
    let include = std::env::var_os("LIBTORCH_INCLUDE").map_or(root, Into::into).join("include");
    let cxx11_abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
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
