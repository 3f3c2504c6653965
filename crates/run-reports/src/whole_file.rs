//! Replacing a file as a whole.

use crate::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Replaces the file at `path`, or makes it and its folder. A reader sees the old content or the
/// new one, never half of it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    try_replace(path, content).map_err(Error::file(path))
}

fn try_replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".report-");
    // As with any new file, the umask decides. The default of `tempfile` is 0600.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}
