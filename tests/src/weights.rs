//! Weights in safetensors files, compared bit by bit.

use anyhow::{Context, Result, bail};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;

/// Named weights as flat float32 values.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Weights {
    /// Reads the weights of a model folder.
    ///
    /// # Errors
    /// When there is no file, or a tensor is neither float32 nor bfloat16.
    pub fn read(model: &Path) -> Result<Self> {
        let path = model.join("model.safetensors");
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let values = match view.dtype() {
                Dtype::F32 => words(view.data()).map(f32::from_bits).collect(),
                Dtype::BF16 => halves(view.data()).map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
                other => bail!("{name} is {other}"),
            };
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Ok(Self { tensors })
    }

    /// Reads the float32 values of a bfloat16 checkpoint. Their lower halves are beside the
    /// optimizer's state, as signed differences of the bit patterns.
    ///
    /// # Errors
    /// When a weight has no lower half.
    pub fn read_with_hidden_bits(checkpoint: &Path) -> Result<Self> {
        let mut weights = Self::read(checkpoint)?;
        let bytes = std::fs::read(checkpoint.join("optimizer.safetensors"))?;
        let state = SafeTensors::deserialize(&bytes)?;
        for (name, (_, values)) in &mut weights.tensors {
            let hidden = state.tensor(&format!("{name}.hidden_bits"))?;
            anyhow::ensure!(hidden.data().len() == 2 * values.len(), "{name}: hidden bits of another size");
            for (value, low) in values.iter_mut().zip(halves(hidden.data())) {
                let low = i32::from(low.cast_signed());
                *value = f32::from_bits(value.to_bits().wrapping_add_signed(low));
            }
        }
        Ok(weights)
    }

    /// Sets one row of a matrix to zero.
    ///
    /// # Errors
    /// When there is no such row.
    pub fn with_zero_row(mut self, name: &str, row: usize) -> Result<Self> {
        let (shape, values) = self.tensors.get_mut(name).with_context(|| format!("no tensor {name}"))?;
        let width = shape.last().copied().unwrap_or(1);
        values.get_mut(row * width..(row + 1) * width).with_context(|| format!("{name} has no row {row}"))?.fill(0.0);
        Ok(self)
    }

    /// All values, rounded to the nearest bfloat16, ties to even.
    #[must_use]
    pub fn rounded_to_bfloat16(mut self) -> Self {
        for value in self.tensors.values_mut().flat_map(|(_, values)| values) {
            let bits = value.to_bits();
            *value = f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000);
        }
        self
    }

    /// Replaces the weights of a model folder by these, in float32.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, model: &Path) -> Result<()> {
        let bytes: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| {
                (name.as_str(), shape.as_slice(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
            })
            .collect();
        let views = bytes
            .iter()
            .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize_to_file(views, None, &model.join("model.safetensors"))?)
    }

    /// The differences from `start`, as one vector.
    ///
    /// # Errors
    /// When the names or sizes differ.
    pub fn minus(&self, start: &Self) -> Result<Vec<f64>> {
        anyhow::ensure!(self.tensors.keys().eq(start.tensors.keys()), "other names");
        let pairs = self.tensors.values().zip(start.tensors.values());
        let mut differences = Vec::new();
        for ((shape, values), (other_shape, others)) in pairs {
            anyhow::ensure!(shape == other_shape, "shapes {shape:?} and {other_shape:?}");
            differences.extend(values.iter().zip(others).map(|(value, other)| f64::from(*value) - f64::from(*other)));
        }
        Ok(differences)
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|chunk| u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|chunk| u16::from_le_bytes([chunk[0], chunk[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(values: &[f32]) -> Weights {
        Weights { tensors: BTreeMap::from([("weight".to_owned(), (vec![values.len()], values.to_vec()))]) }
    }

    #[test]
    fn rounding_is_to_nearest_and_to_even() {
        // 1 + 1/128 is the next bfloat16 after 1.
        let rounded = one(&[1.0, 1.0 + 0.4 / 128.0, 1.0 + 0.6 / 128.0, 1.0 + 0.5 / 128.0, 1.0 + 1.5 / 128.0, -0.1]);
        let expected = [1.0, 1.0, 1.0 + 1.0 / 128.0, 1.0, 1.0 + 2.0 / 128.0, -0.100_097_656];
        assert_eq!(rounded.rounded_to_bfloat16(), one(&expected));
    }

    #[test]
    fn files_are_read_as_they_were_written() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let weights = one(&[0.5, -3.25e-7, f32::MAX]);
        weights.write(folder.path())?;
        assert_eq!(Weights::read(folder.path())?, weights);
        assert_eq!(one(&[2.0, 1.0]).minus(&one(&[0.5, 1.0]))?, [1.5, 0.0]);
        assert!(one(&[2.0]).minus(&weights).is_err());
        Ok(())
    }
}
