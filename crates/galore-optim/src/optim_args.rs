//! Hugging Face's `optim_args`: comma-separated `key=value`.

use crate::{Error, GaLoreConfig, ProjectionType};
use std::str::FromStr;

const KEYS: [&str; 4] = ["rank", "update_proj_gap", "scale", "proj_type"];

/// Reads `optim_args` of a GaLore optimizer, `"rank=1024, update_proj_gap=500, scale=1.8"`.
///
/// Spaces are ignored; what is not given keeps [`GaLoreConfig::default`]. Unlike transformers,
/// which drops unknown keys in silence, every key must be known.
///
/// # Errors
/// [`Error::UnknownOptimArg`] names the nearest known key; [`Error::OptimArgValue`] names key and
/// value that are out of range, repeated or missing.
pub fn parse_optim_args(text: &str) -> Result<GaLoreConfig, Error> {
    let mut config = GaLoreConfig::default();
    let mut seen: Vec<&str> = Vec::new();
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.is_empty() {
        return Ok(config);
    }
    for item in compact.split(',') {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        let key = known_key(key)?;
        let bad = |reason: &str| Error::OptimArgValue {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        };
        if seen.contains(&key) {
            return Err(bad("given twice"));
        }
        seen.push(key);
        match key {
            "rank" => config.rank = positive(value).ok_or_else(|| bad("must be a whole number of at least 1"))?,
            "update_proj_gap" => {
                config.update_proj_gap = positive(value).ok_or_else(|| bad("must be a whole number of at least 1"))?;
            }
            "scale" => {
                config.scale = f64::from_str(value)
                    .ok()
                    .filter(|scale| scale.is_finite())
                    .ok_or_else(|| bad("must be a finite number"))?;
            }
            _ => {
                config.proj_type = ProjectionType::ALL
                    .into_iter()
                    .find(|(name, _)| *name == value)
                    .map(|(_, proj_type)| proj_type)
                    .ok_or_else(|| bad("must be std, reverse_std, right, left or full"))?;
            }
        }
    }
    Ok(config)
}

fn positive(value: &str) -> Option<i64> {
    i64::from_str(value).ok().filter(|&number| number >= 1)
}

fn known_key(key: &str) -> Result<&'static str, Error> {
    let mut nearest = (usize::MAX, KEYS[0]);
    for known in KEYS {
        let distance = edit_distance(key, known);
        if distance == 0 {
            return Ok(known);
        }
        if distance < nearest.0 {
            nearest = (distance, known);
        }
    }
    Err(Error::UnknownOptimArg { key: key.to_owned(), nearest: nearest.1 })
}

/// Levenshtein distance.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

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
