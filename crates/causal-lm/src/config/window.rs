//! Sliding-window attention: which layers have it, and how far it reaches.

use super::Family;
use super::fields::{Fields, shortened};
use crate::Error;
use serde_json::Value;
use std::num::NonZeroUsize;

/// The window of a file that does not state one.
const DEFAULT_WINDOW: i64 = 4096;
/// The first layer with a window in a Qwen2 file that does not state it.
const DEFAULT_MAX_WINDOW_LAYERS: i64 = 28;

/// The tokens that a token attends to, itself included, in the layers that have a window. `None` if
/// no layer has.
pub(super) fn read(fields: &Fields<'_>, family: Family, num_layers: usize) -> Result<Option<NonZeroUsize>, Error> {
    let stated = match fields.has("sliding_window") {
        true => fields.optional_count("sliding_window")?,
        false => Some(DEFAULT_WINDOW),
    };
    let layer_types = layer_types(fields, num_layers)?;
    let window = match family {
        Family::Llama => {
            if layer_types == Some(Layers::SomeSliding) {
                return Err(no_window(fields));
            }
            None
        }
        // Without layer types, all layers have the window.
        Family::Mistral => layer_window(fields, stated, layer_types.unwrap_or(Layers::SomeSliding), family)?,
        Family::Qwen2 => {
            let first = fields.whole_number("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS)?;
            let window = stated.filter(|_| matches!(fields.get("use_sliding_window"), Some(Value::Bool(true))));
            fields.flag("use_sliding_window", false)?;
            match layer_types {
                None if usize::try_from(first).is_ok_and(|first| first >= num_layers) => None,
                None => window,
                Some(layers) => layer_window(fields, window, layers, family)?,
            }
        }
    };
    Ok(window.and_then(|window| usize::try_from(window).ok()).and_then(NonZeroUsize::new))
}

fn layer_window(
    fields: &Fields<'_>,
    window: Option<i64>,
    layers: Layers,
    family: Family,
) -> Result<Option<i64>, Error> {
    match layers {
        Layers::AllFull => Ok(None),
        Layers::SomeSliding if window.is_none() && (family == Family::Qwen2 || fields.get("layer_types").is_some()) => {
            Err(no_window(fields))
        }
        Layers::SomeSliding => Ok(window),
    }
}

fn no_window(fields: &Fields<'_>) -> Error {
    let problem = "has \"sliding_attention\", but the file sets no window for it".to_owned();
    fields.error("layer_types", problem)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    AllFull,
    SomeSliding,
}

fn layer_types(fields: &Fields<'_>, num_layers: usize) -> Result<Option<Layers>, Error> {
    let types = match fields.get("layer_types") {
        None => return Ok(None),
        Some(Value::Array(types)) => types,
        Some(other) => return Err(fields.error("layer_types", format!("is {}, must be a list", shortened(other)))),
    };
    let mut layers = Layers::AllFull;
    for layer_type in types {
        match layer_type.as_str() {
            Some("full_attention") => {}
            Some("sliding_attention") => layers = Layers::SomeSliding,
            _ => {
                let problem =
                    format!("has {}; full_attention and sliding_attention are supported", shortened(layer_type));
                return Err(fields.error("layer_types", problem));
            }
        }
    }
    // A list without windows changes nothing, however long it is.
    if layers == Layers::SomeSliding && types.len() != num_layers {
        let problem = format!("has {} entries, num_hidden_layers is {num_layers}", types.len());
        return Err(fields.error("layer_types", problem));
    }
    Ok(Some(layers))
}
