//! Sliding-window attention: which layers have it, and how far it reaches.

use super::fields::{Fields, shortened};
use crate::Error;
use serde_json::Value;
use std::num::NonZeroUsize;

/// The tokens that a token of each layer attends to, itself included; `None` for all of them.
/// `slides` says which layers have the window if the file has no `layer_types`.
pub(crate) fn of_layers(
    fields: &Fields<'_>,
    num_layers: usize,
    window: Option<i64>,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<Option<NonZeroUsize>>, Error> {
    let listed = layer_types(fields, num_layers)?;
    let window = window.and_then(|window| usize::try_from(window).ok()).and_then(NonZeroUsize::new);
    let slides: Vec<bool> = match listed {
        Some(listed) if window.is_none() && listed.contains(&true) => {
            let problem = "has \"sliding_attention\", but the file sets no window for it".to_owned();
            return Err(fields.error("layer_types", problem));
        }
        Some(listed) => listed,
        None => (0..num_layers).map(slides).collect(),
    };
    Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
}

/// Whether each layer has a window, if the file lists them.
fn layer_types(fields: &Fields<'_>, num_layers: usize) -> Result<Option<Vec<bool>>, Error> {
    let types = match fields.get("layer_types") {
        None => return Ok(None),
        Some(Value::Array(types)) => types,
        Some(other) => return Err(fields.error("layer_types", format!("is {}, must be a list", shortened(other)))),
    };
    let slides = |layer_type: &Value| match layer_type.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => {
            let problem = format!("has {}; full_attention and sliding_attention are supported", shortened(layer_type));
            Err(fields.error("layer_types", problem))
        }
    };
    let slides = types.iter().map(slides).collect::<Result<Vec<bool>, Error>>()?;
    if !slides.contains(&true) {
        // A list without windows changes nothing, however long it is.
        return Ok(Some(vec![false; num_layers]));
    }
    if slides.len() != num_layers {
        let problem = format!("has {} entries, num_hidden_layers is {num_layers}", types.len());
        return Err(fields.error("layer_types", problem));
    }
    Ok(Some(slides))
}
