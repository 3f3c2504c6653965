//! Puts libtorch's folder into the run path of this package's tests and examples, so that they
//! start with no environment set.

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Some(folder) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") {
        let folder = std::path::PathBuf::from(folder);
        let folder = std::fs::canonicalize(&folder).unwrap_or(folder);
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
    }
}
