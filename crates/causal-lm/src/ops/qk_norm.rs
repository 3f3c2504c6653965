//! Root-mean-square norm of queries and keys before they are rotated (Dehghani et al., arXiv
//! 2302.05442): of each head, with one weight for all heads, or of all heads together.
//!
//! Shapes: `n` tokens, `h` query heads, `g` key and value heads, `k` head size.

use super::norm::{self, Gain, Norm, NormKind, Statistics};
use super::three_dimensions;
use crate::Error;
use tch::Tensor;

/// What is normalised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The `k` values of a head. Weights are `[k]`. Qwen3 and Gemma 3 have it.
    Head,
    /// All heads of a token. The query's weight is `[h k]`, the key's `[g k]`. OLMo 2 has it.
    Width,
}

/// The norms of queries and keys.
#[derive(Debug, Clone, Copy)]
pub struct QkNorm<'a> {
    /// What is normalised together.
    pub over: Over,
    /// What the normalised values are multiplied with.
    pub gain: Gain,
    /// Weights of the query's norm and the key's.
    pub weights: [&'a Tensor; 2],
    /// Added to the mean square.
    pub epsilon: f64,
}

/// What the backward needs in addition to the forward's input: the statistics of queries and of
/// keys.
#[derive(Debug)]
pub struct Saved([Statistics; 2]);

/// Queries, keys and values of tokens, side by side.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// `[n, h + 2 g, k]`.
    pub qkv: &'a Tensor,
    /// h.
    pub num_query: i64,
    /// g.
    pub num_key: i64,
}

impl Heads<'_> {
    /// First and number of the query heads, then of the key heads.
    fn normalised(&self) -> [(i64, i64); 2] {
        [(0, self.num_query), (self.num_query, self.num_key)]
    }

    fn check(&self) -> Result<(), Error> {
        let (n, heads, k) = three_dimensions("qk_norm", self.qkv)?;
        if heads == self.num_query + 2 * self.num_key {
            return Ok(());
        }
        let expected = format!("{} query heads, and {} of keys and of values", self.num_query, self.num_key);
        Err(Error::Shape { operation: "qk_norm", expected, found: format!("[{n}, {heads}, {k}]") })
    }
}

/// A copy of queries, keys and values in which queries and keys are normalised,
/// `[n, h + 2 g, k]`; and what the backward needs.
///
/// # Errors
/// [`Error::Shape`] unless the heads add up, [`Error::Torch`] for weights that do not fit.
pub fn forward(heads: Heads<'_>, norm: QkNorm<'_>) -> Result<(Tensor, Saved), Error> {
    heads.check()?;
    let output = heads.qkv.f_empty_like()?;
    let one = |(start, count): (i64, i64), weight| -> Result<Statistics, Error> {
        let x = rows(&heads.qkv.f_narrow(1, start, count)?, norm.over)?;
        let (y, statistics) = norm::forward(&x, norm.with(weight))?;
        let mut output = output.f_narrow(1, start, count)?;
        output.f_copy_(&y.f_view_as(&output)?)?;
        Ok(statistics)
    };
    let [query, key] = heads.normalised();
    let saved = Saved([one(query, norm.weights[0])?, one(key, norm.weights[1])?]);
    let value = heads.num_query + heads.num_key;
    output.f_narrow(1, value, heads.num_key)?.f_copy_(&heads.qkv.f_narrow(1, value, heads.num_key)?)?;
    Ok((output, saved))
}

/// Turns `d_qkv`, the gradient of the forward's output, into that of its input `heads`, in place.
/// Adds the gradients of the weights, of the query's norm and the key's, to their buffers.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    d_qkv: Tensor,
    (heads, norm): (Heads<'_>, QkNorm<'_>),
    saved: &Saved,
    weight_gradients: [Tensor; 2],
) -> Result<Tensor, Error> {
    heads.check()?;
    let parts = heads.normalised().into_iter().zip(norm.weights).zip(&saved.0).zip(weight_gradients);
    for ((((start, count), weight), statistics), gradient) in parts {
        let x = rows(&heads.qkv.f_narrow(1, start, count)?, norm.over)?;
        let mut d_part = d_qkv.f_narrow(1, start, count)?;
        let dy = rows(&d_part, norm.over)?;
        let saved = norm::Saved { x: &x, norm: norm.with(weight), statistics };
        let mut gradients = norm::Gradients { weight: gradient, bias: None };
        let dx = norm::backward(&dy, saved, None, &mut gradients)?;
        d_part.f_copy_(&dx.f_view_as(&d_part)?)?;
    }
    Ok(d_qkv)
}

impl<'a> QkNorm<'a> {
    fn with(self, weight: &'a Tensor) -> Norm<'a> {
        Norm { kind: NormKind::Rms(self.gain), weight, bias: None, epsilon: self.epsilon }
    }
}

/// What is normalised together as the rows of a matrix: `[n, heads, k]` → `[n heads, k]` or
/// `[n, heads k]`.
fn rows(x: &Tensor, over: Over) -> Result<Tensor, Error> {
    let (n, heads, k) = x.size3()?;
    let shape = match over {
        Over::Head => [n * heads, k],
        Over::Width => [n, heads * k],
    };
    Ok(x.f_reshape(shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Check, device, each_precision, random};
    use tch::{Device, Kind};

    #[test]
    fn equals_autograd() {
        let cases = [(Over::Head, Gain::Rounded), (Over::Head, Gain::WideOnePlus), (Over::Width, Gain::Wide)];
        for (over, gain) in cases {
            for (n, h, g, k) in [(1, 1, 1, 3), (5, 4, 2, 8), (7, 3, 1, 5)] {
                each_precision(|kind| {
                    let qkv = random(&[n, h + 2 * g, k], kind);
                    let widths = if over == Over::Head { [k, k] } else { [h * k, g * k] };
                    let [query, key] = widths.map(|width| random(&[width], kind));
                    let dy = random(&[n, h + 2 * g, k], kind);
                    let offset = if gain == Gain::WideOnePlus { 1.0 } else { 0.0 };
                    let mut check = Check::of(&[&qkv, &query, &key], &dy, |t| {
                        let one = |start, heads: i64, weight: &Tensor| {
                            let x = t[0].narrow(1, start, heads);
                            let flat =
                                if over == Over::Head { x.shallow_clone() } else { x.reshape([n, 1, heads * k]) };
                            let mean = (&flat * &flat).mean_dim(2, true, Kind::Double);
                            (&flat * (mean + 1e-6).rsqrt() * (weight + offset)).reshape([n, heads, k])
                        };
                        Tensor::cat(&[one(0, h, &t[1]), one(h, g, &t[2]), t[0].narrow(1, h + g, g)], 1)
                    });
                    let heads = Heads { qkv: &qkv, num_query: h, num_key: g };
                    let norm = QkNorm { over, gain, weights: [&query, &key], epsilon: 1e-6 };
                    let (y, saved) = forward(heads, norm).unwrap();
                    check.forward(&y);
                    let gradients = [query.zeros_like(), key.zeros_like()];
                    let buffers = gradients.each_ref().map(Tensor::shallow_clone);
                    check.gradient(0, &backward(dy.copy(), (heads, norm), &saved, buffers).unwrap());
                    check.gradient(1, &gradients[0]);
                    check.gradient(2, &gradients[1]);
                });
            }
        }
    }

    #[test]
    fn heads_that_do_not_add_up_are_refused() {
        let qkv = Tensor::zeros([2, 5, 4], (Kind::Float, Device::Cpu)).to_device(device());
        let weight = Tensor::ones([4], (Kind::Float, device()));
        let norm = QkNorm { over: Over::Head, gain: Gain::Rounded, weights: [&weight, &weight], epsilon: 1e-6 };
        let message = forward(Heads { qkv: &qkv, num_query: 2, num_key: 2 }, norm).unwrap_err().to_string();
        assert!(message.contains("2 query heads") && message.contains("[2, 5, 4]"), "{message}");
    }
}
