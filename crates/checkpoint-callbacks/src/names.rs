//! Names in the output folder: `checkpoint-<step>`, and hidden siblings for what is on its way in
//! or out.

use std::path::{Path, PathBuf};

/// What a hidden sibling of a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sibling {
    /// Being written.
    Partial,
    /// Replaced by a newer one of the same step; the checkpoint itself until the newer one is in
    /// place.
    Replaced,
    /// Being deleted.
    Deleted,
}

impl Sibling {
    const ALL: [Self; 3] = [Self::Partial, Self::Replaced, Self::Deleted];

    fn suffix(self) -> &'static str {
        match self {
            Self::Partial => ".partial",
            Self::Replaced => ".replaced",
            Self::Deleted => ".deleted",
        }
    }

    /// The sibling of the checkpoint of `global_step`.
    pub fn path(self, output_dir: &Path, global_step: u64) -> PathBuf {
        output_dir.join(format!(".checkpoint-{global_step}{}", self.suffix()))
    }

    /// Which sibling of which checkpoint a file name is.
    pub fn parse(name: &str) -> Option<(Self, u64)> {
        Self::ALL.into_iter().find_map(|sibling| {
            let name = name.strip_prefix('.')?.strip_suffix(sibling.suffix())?;
            Some((sibling, parse_checkpoint(name)?))
        })
    }
}

/// `output_dir/checkpoint-<global_step>`.
pub(crate) fn checkpoint_path(output_dir: &Path, global_step: u64) -> PathBuf {
    output_dir.join(format!("checkpoint-{global_step}"))
}

/// The step of a checkpoint's name. Only names that [`checkpoint_path`] makes count: not
/// `checkpoint-007` or `-old`.
pub(crate) fn parse_checkpoint(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-")?;
    let step: u64 = digits.parse().ok()?;
    (step.to_string() == digits).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_recognised() {
        assert_eq!(parse_checkpoint("checkpoint-120"), Some(120));
        for other in
            ["checkpoint-", "checkpoint-x", "checkpoint-007", "checkpoint-+7", "checkpoint-7-old", "my-checkpoint-7"]
        {
            assert_eq!(parse_checkpoint(other), None, "{other}");
        }
        for sibling in Sibling::ALL {
            let path = sibling.path(Path::new("out"), 7);
            assert_eq!(Sibling::parse(path.file_name().unwrap().to_str().unwrap()), Some((sibling, 7)));
        }
        assert_eq!(Sibling::parse("checkpoint-7.partial"), None);
    }
}
