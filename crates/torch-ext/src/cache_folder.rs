use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// Returns the folder of `program` inside the user's cache, `$XDG_CACHE_HOME` or `~/.cache`. `None`
/// if the environment names neither by an absolute path: a relative one would be another folder in
/// each working directory. The folder may not exist.
pub fn cache_folder(program: &str) -> Option<PathBuf> {
    in_cache(program, env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"))
}

/// A variable that is no absolute path counts as one that is not set.
fn in_cache(program: &str, cache: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let set = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set(cache).or_else(|| set(home).map(|home| home.join(".cache")))?;
    Some(base.join(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let folder = |cache: &str, home: &str| in_cache("name", Some(cache.into()), Some(home.into()));
        assert_eq!(folder("/cache", "/home/me"), Some("/cache/name".into()));
        assert_eq!(folder("", "/home/me"), Some("/home/me/.cache/name".into()));
        assert_eq!(folder("", ""), None);
        assert_eq!(folder("cache", "/home/me"), Some("/home/me/.cache/name".into()));
        assert_eq!(folder("cache", "."), None);
        assert_eq!(in_cache("name", None, None), None);
    }
}
