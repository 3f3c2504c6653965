//! Names in the output folder: `checkpoint-<step>` for checkpoints, and hidden siblings for
//! checkpoints that are being written, replaced or deleted.

use std::path::{Path, PathBuf};

/// The state of a checkpoint that has a hidden name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sibling {
    /// Being written.
    Partial,
    /// Replaced by a newer checkpoint of the same step. It is still the valid one until the newer
    /// one has its name.
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

    /// The hidden path of the checkpoint of `global_step`.
    pub fn path(self, output_dir: &Path, global_step: u64) -> PathBuf {
        output_dir.join(format!(".checkpoint-{global_step}{}", self.suffix()))
    }

    /// Parses a hidden name into the sibling and the step.
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

/// The step in a checkpoint's name. `None` for a name that [`checkpoint_path`] does not make, such
/// as `checkpoint-007` or `checkpoint-7-old`.
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
