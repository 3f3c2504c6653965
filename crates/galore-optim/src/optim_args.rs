//! Hugging Face's `optim_args`: comma-separated `key=value`.

use crate::{Error, GaLoreConfig};
use std::collections::HashSet;
use std::str::FromStr;

const KEYS: [&str; 4] = ["rank", "update_proj_gap", "scale", "proj_type"];

/// Reads the `optim_args` of a GaLore optimizer, such as
/// `"rank=1024, update_proj_gap=500, scale=1.8"`.
///
/// Spaces are ignored. Keys that are not given keep the value of [`GaLoreConfig::default`].
/// transformers silently drops unknown keys; here they are an error.
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
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        let bad = |reason: &str| Error::OptimArgValue {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        };
        if !seen.insert(key) {
            return Err(bad("given twice"));
        }
        let positive = || {
            let number = i64::from_str(value).ok().filter(|&number| number >= 1);
            number.ok_or_else(|| bad("must be a whole number of at least 1"))
        };
        match key {
            "rank" => config.rank = positive()?,
            "update_proj_gap" => config.update_proj_gap = positive()?,
            "scale" => {
                let number = f64::from_str(value).ok().filter(|scale| scale.is_finite());
                config.scale = number.ok_or_else(|| bad("must be a finite number"))?;
            }
            "proj_type" => {
                config.proj_type = value.parse().map_err(|_| bad("must be std, reverse_std, right, left or full"))?;
            }
            _ => return Err(Error::UnknownOptimArg { key: key.to_owned(), nearest: nearest_key(key) }),
        }
    }
    Ok(config)
}

fn nearest_key(key: &str) -> &'static str {
    KEYS.into_iter().min_by_key(|known| strsim::levenshtein(key, known)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProjectionType;

    #[test]
    fn documented_recipe() {
        let config = parse_optim_args("rank=1024, update_proj_gap=500, scale=1.8").unwrap();
        let expected = GaLoreConfig { rank: 1024, update_proj_gap: 500, scale: 1.8, ..GaLoreConfig::default() };
        assert_eq!(config, expected);
        assert_eq!(parse_optim_args("").unwrap(), GaLoreConfig::default());
        assert_eq!(parse_optim_args("proj_type = reverse_std").unwrap().proj_type, ProjectionType::ReverseStd);
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
