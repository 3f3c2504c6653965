//! Writing state files: the header first, then the tensors in pieces.
//!
//! The safetensors crate's `serialize_to_file` is not used. It writes only to a path, cannot report
//! an error of reading a tensor from a device, and writes `__metadata__` in the random order of a
//! hash map, so that equal states would be different files.

use super::{Entry, FORMAT, LENGTH_BYTES, departures, dtype, entries, num_bytes, settings};
use crate::Error;
use crate::engine::Engine;
use serde_json::{Map, Value, json};
use std::io::Write;
use tch::{Device, Tensor};

/// Elements to write at a time.
const PIECE_ELEMENTS: i64 = 1 << 20;

/// The state of an optimizer as the content of a safetensors file: a header, then the bytes of its
/// tensors, end to end.
///
/// The tensors share memory with the optimizer. [`StateFile::write_to`] writes them as they are at
/// that moment. To write the file while further steps are taken, copy the bytes of
/// [`StateFile::tensors`] first, then write [`StateFile::into_header`] and the copy.
#[derive(Debug)]
pub struct StateFile {
    header: Vec<u8>,
    tensors: Vec<Tensor>,
}

impl StateFile {
    pub(crate) fn new(engine: &Engine) -> Result<Self, Error> {
        let mut metadata = json!({
            "format": FORMAT,
            "optimizer": engine.optimizer_name(),
            "num_steps": engine.num_steps.to_string(),
        });
        if let Some(seed) = engine.seed() {
            metadata["seed"] = json!(seed.to_string());
        }
        metadata["settings"] = json!(settings::text(engine)?);
        let departures = departures(engine);
        if !departures.is_empty() {
            metadata["refresh"] = json!(serde_json::to_string(&departures)?);
        }
        let mut entries = entries(engine)?;
        // Widest first keeps every tensor aligned.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.kind.elt_size_in_bytes()));
        let mut header = Map::from_iter([("__metadata__".to_owned(), metadata)]);
        let mut tensors = Vec::new();
        let mut end = 0;
        for Entry { name, kind, shape, pieces } in entries {
            let start = end;
            end += pieces.iter().map(num_bytes).sum::<usize>();
            let dtype = dtype(kind)?.to_string();
            header.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }));
            tensors.extend(pieces);
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.append(&mut text);
        Ok(StateFile { header, tensors })
    }

    /// The tensors whose bytes follow the header, in this order, each in the order of its elements.
    /// An entry of a target `[experts, rows, cols]` is one tensor for each expert.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The bytes before those of the tensors.
    pub fn into_header(self) -> Vec<u8> {
        self.header
    }

    /// Writes the whole file, with the tensors as they are now.
    ///
    /// # Errors
    /// [`Error::Write`] if `to` fails, [`Error::Torch`] if a tensor cannot be read.
    pub fn write_to(&self, to: &mut dyn Write) -> Result<(), Error> {
        to.write_all(&self.header).map_err(Error::Write)?;
        let mut bytes = Vec::new();
        for tensor in &self.tensors {
            let flat = tensor.f_contiguous()?.f_view([-1])?;
            let length = flat.size1()?;
            for start in (0..length).step_by(PIECE_ELEMENTS as usize) {
                let piece = flat.f_narrow(0, start, PIECE_ELEMENTS.min(length - start))?.f_to_device(Device::Cpu)?;
                bytes.resize(num_bytes(&piece), 0);
                piece.f_copy_data_u8(&mut bytes, piece.numel())?;
                to.write_all(&bytes).map_err(Error::Write)?;
            }
        }
        Ok(())
    }
}
