//! Hugging Face's `optim_args`: comma-separated `key=value`.

use crate::{Error, GaLoreConfig};
use std::collections::HashSet;
use std::str::FromStr;

/// A key of `optim_args`, named after the field of [`GaLoreConfig`] that it sets.
struct Key {
    name: &'static str,
    /// What its values are, for messages.
    values: &'static str,
    /// Sets the field, or returns `None` if the value is none of those.
    set: fn(&mut GaLoreConfig, &str) -> Option<()>,
}

const RANK: &str = "must be a whole number of at least 1, or a fraction of the shorter side such as 0.25, at most 1.0";

const KEYS: [Key; 9] = [
    Key {
        name: "rank",
        values: RANK,
        set: |config, value| {
            config.rank = value.parse().ok().filter(|rank: &crate::Rank| rank.problem().is_none())?;
            Some(())
        },
    },
    Key {
        name: "update_proj_gap",
        values: "must be a whole number of at least 1",
        set: |config, value| {
            config.update_proj_gap = i64::from_str(value).ok().filter(|&gap| gap >= 1)?;
            Some(())
        },
    },
    Key {
        name: "scale",
        values: "must be a finite number, or auto",
        set: |config, value| {
            config.scale = value.parse().ok().filter(|scale: &crate::Scale| scale.problem().is_none())?;
            Some(())
        },
    },
    Key {
        name: "proj_type",
        values: "must be std, reverse_std, right, left or full",
        set: |config, value| {
            config.proj_type = value.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "refresh",
        values: "must be together or staggered",
        set: |config, value| {
            config.refresh = value.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "subspace",
        values: "must be auto, svd, eigenvectors (or eigh), power, dct or random",
        set: |config, value| {
            config.subspace = value.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "moments",
        values: "must be keep, transport or reset",
        set: |config, value| {
            config.moments = value.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "lazy_refresh",
        values: "must be true or false",
        set: |config, value| {
            config.lazy_refresh = value.parse().ok()?;
            Some(())
        },
    },
    Key {
        name: "seed",
        values: "must be a whole number of at least 0",
        set: |config, value| {
            config.seed = value.parse().ok()?;
            Some(())
        },
    },
];

/// Reads the `optim_args` of a GaLore optimizer, such as
/// `"rank=1024, update_proj_gap=500, scale=1.8"` or
/// `"rank=0.25, scale=auto, subspace=power, moments=transport"`.
///
/// The keys are the fields of [`GaLoreConfig`]. Spaces are ignored. Keys that are not given keep
/// the value of [`GaLoreConfig::default`]. transformers knows `rank`, `update_proj_gap`, `scale`
/// and `proj_type` and silently drops unknown keys; here they are an error.
///
/// # Errors
/// [`Error::UnknownOptimArg`] names the nearest known key. [`Error::OptimArgValue`] names a key
/// whose value is out of range, given twice, or missing.
pub fn parse_optim_args(text: &str) -> Result<GaLoreConfig, Error> {
    let mut config = GaLoreConfig::default();
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.is_empty() {
        return Ok(config);
    }
    let mut seen = HashSet::new();
    for item in compact.split(',') {
        let (name, value) = item.split_once('=').unwrap_or((item, ""));
        let bad = |reason: &str| Error::OptimArgValue {
            key: name.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        };
        if !seen.insert(name) {
            return Err(bad("given twice"));
        }
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            return Err(Error::UnknownOptimArg { key: name.to_owned(), nearest: nearest_key(name) });
        };
        (key.set)(&mut config, value).ok_or_else(|| bad(key.values))?;
    }
    Ok(config)
}

/// The names of all keys, for messages.
pub(crate) fn known_keys() -> String {
    KEYS.map(|key| key.name).join(", ")
}

fn nearest_key(name: &str) -> &'static str {
    KEYS.iter().map(|key| key.name).min_by_key(|known| strsim::levenshtein(name, known)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BasisChange, ProjectionType, Rank, RefreshTiming, Scale, SubspaceSolver};

    #[test]
    fn documented_recipe() {
        let config = parse_optim_args("rank=1024, update_proj_gap=500, scale=1.8").unwrap();
        let expected =
            GaLoreConfig { rank: 1024.into(), update_proj_gap: 500, scale: 1.8.into(), ..GaLoreConfig::default() };
        assert_eq!(config, expected);
        assert_eq!(parse_optim_args("").unwrap(), GaLoreConfig::default());
        assert_eq!(parse_optim_args("proj_type = reverse_std").unwrap().proj_type, ProjectionType::ReverseStd);
    }

    #[test]
    fn every_field_has_a_key() {
        let text = "rank=0.25, update_proj_gap=7, scale=auto, proj_type=full, refresh=staggered, subspace=eigh, \
                    moments=transport, lazy_refresh=true, seed=5";
        let expected = GaLoreConfig {
            rank: Rank::Fraction(0.25),
            update_proj_gap: 7,
            scale: Scale::Auto,
            proj_type: ProjectionType::Full,
            refresh: RefreshTiming::Staggered,
            subspace: SubspaceSolver::Eigenvectors,
            moments: BasisChange::Transport,
            lazy_refresh: true,
            seed: 5,
        };
        assert_eq!(parse_optim_args(text).unwrap(), expected);
        let written = serde_json::to_value(expected).unwrap();
        let mut fields: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
        let mut keys = KEYS.map(|key| key.name);
        fields.sort_unstable();
        keys.sort_unstable();
        assert_eq!(fields, keys);
        for (name, solver) in [("svd", "svd"), ("eigenvectors", "eigenvectors"), ("power", "power"), ("dct", "dct")] {
            assert_eq!(parse_optim_args(&format!("subspace={name}")).unwrap().subspace.to_string(), solver);
        }
    }

    #[test]
    fn errors_name_key_and_value() {
        for (text, expected) in [
            ("rnak=4", "`rnak`; did you mean `rank`?"),
            ("update_gap=4", "`update_gap`; did you mean `update_proj_gap`?"),
            ("scales=4", "did you mean `scale`?"),
            ("=4", "unknown key ``"),
            ("rank=4,", "unknown key ``"),
            ("rank=0", "rank=0: must be a whole number of at least 1"),
            ("rank=-3", "rank=-3:"),
            ("rank=1.5", "rank=1.5:"),
            ("rank=0.0", "or a fraction of the shorter side such as 0.25"),
            ("rank=nan", "rank=nan:"),
            ("subspcae=dct", "did you mean `subspace`?"),
            ("subspace=qr", "subspace=qr: must be auto, svd, eigenvectors (or eigh), power, dct or random"),
            ("moments=drop", "moments=drop: must be keep, transport or reset"),
            ("lazy_refresh=1", "lazy_refresh=1: must be true or false"),
            ("seed=-1", "seed=-1: must be a whole number"),
            ("rank", "rank=: must be"),
            ("update_proj_gap=0", "update_proj_gap=0: must be a whole number of at least 1"),
            ("scale=big", "scale=big: must be a finite number"),
            ("scale=inf", "scale=inf: must be a finite number"),
            ("proj_type=both", "proj_type=both: must be std, reverse_std, right, left or full"),
            ("rank=4,rank=5", "rank=5: given twice"),
            ("rank=4=5", "rank=4=5:"),
        ] {
            let message = parse_optim_args(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
