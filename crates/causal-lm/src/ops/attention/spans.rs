//! Rows in parts: a few queries, and the keys that at least one of them sees. So no `[t, t]` matrix
//! is needed, and keys outside the window cost nothing.

use super::{Scores, sum_heads};
use crate::Error;
use crate::ops::wide_kind;
use tch::{Device, Kind, Tensor};

/// Queries taken together. Enough for products at full speed; each further one makes the keys of
/// the part one more than the window.
const QUERIES: i64 = 512;

/// Some queries of a row of a group, and the keys that they see. Places count from the row's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first key.
    first_key: i64,
    first_query: i64,
    num_queries: i64,
    /// The window, if it hides a key of the span from a query.
    window: Option<i64>,
}

impl Span {
    /// A whole row of this length: the future is all that is hidden.
    pub(super) fn whole(length: i64) -> Self {
        Self { first_key: 0, first_query: 0, num_queries: length, window: None }
    }

    /// A row of this length in parts.
    pub(super) fn parts(length: i64, scores: &Scores) -> Vec<Self> {
        let window = scores.window_within(length);
        let part = |first_query: i64| {
            let num_queries = QUERIES.min(length - first_query);
            let first_key = window.map_or(0, |window| (first_query - window + 1).max(0));
            let num_keys = first_query + num_queries - first_key;
            Self { first_key, first_query, num_queries, window: window.filter(|window| *window < num_keys) }
        };
        (0..length).step_by(QUERIES as usize).map(part).collect()
    }

    /// Whether each query sees just the keys up to its own place among the span's keys.
    pub(super) fn is_causal(&self) -> bool {
        self.window.is_none() && self.first_key == self.first_query
    }

    /// The queries of `[b, h, t, k]`, a view.
    pub(super) fn queries(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        Ok(tensor.f_narrow(2, self.first_query, self.num_queries)?)
    }

    /// The keys or values of `[b, h, t, k]`, a view.
    pub(super) fn keys(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        Ok(tensor.f_narrow(2, self.first_key, self.num_keys())?)
    }

    fn num_keys(&self) -> i64 {
        self.first_query + self.num_queries - self.first_key
    }

    /// True where a query does not see a key, `[queries, keys]`.
    pub(super) fn hidden(&self, device: Device) -> Result<Tensor, Error> {
        let ones = || Tensor::f_ones([self.num_queries, self.num_keys()], (Kind::Bool, device));
        let own_key = self.first_query - self.first_key; // that of the first query
        let future = ones()?.f_triu(own_key + 1)?;
        match self.window {
            None => Ok(future),
            Some(window) => Ok(future.f_logical_or(&ones()?.f_tril(own_key - window)?)?),
        }
    }

    /// What is added to scores: 0 where a query sees a key, −∞ elsewhere; `[queries, keys]`.
    pub(super) fn mask(&self, kind: Kind, device: Device) -> Result<Tensor, Error> {
        let zeros = Tensor::f_zeros([self.num_queries, self.num_keys()], (kind, device))?;
        Ok(zeros.f_masked_fill(&self.hidden(device)?, f64::NEG_INFINITY)?)
    }
}

/// The gradient of the keys or values of a group, `[b, g, t, k]`, which spans add to.
pub(super) struct KeyGradient {
    gradient: Tensor,
    /// In float32 or wider, because several spans see a key. `None` if there is only one.
    sum: Option<Tensor>,
}

impl KeyGradient {
    pub(super) fn new(gradient: Tensor, num_spans: usize) -> Result<Self, Error> {
        let options = (wide_kind(gradient.f_kind()?), gradient.device());
        let sum = (num_spans > 1).then(|| Tensor::f_zeros(gradient.size(), options)).transpose()?;
        Ok(Self { gradient, sum })
    }

    /// Adds the gradient of the span's keys, `[b, h, keys, k]`, once for each query head.
    pub(super) fn add(&mut self, span: Span, part: &Tensor) -> Result<(), Error> {
        let (_, g, _, _) = self.gradient.size4()?;
        let part = sum_heads(part, g)?;
        match &self.sum {
            Some(sum) => {
                let _ = span.keys(sum)?.f_add_(&part)?;
            }
            None => self.gradient.f_copy_(&part)?,
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        if let Some(sum) = &self.sum {
            self.gradient.f_copy_(sum)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    #[test]
    fn each_query_sees_its_window() {
        for (length, window) in [(1, 1), (700, 1), (513, 512), (1100, 37), (1100, 700), (1024, 1023), (600, 600)] {
            let scores = Scores { window: NonZeroUsize::new(window), ..Scores::scaled(1.0) };
            let mut query = 0;
            for span in Span::parts(length, &scores) {
                assert_eq!(span.first_query, query);
                let seen = span.hidden(Device::Cpu).unwrap().logical_not();
                for row in 0..span.num_queries {
                    let places = Vec::<i64>::try_from(seen.get(row).nonzero().squeeze_dim(1) + span.first_key).unwrap();
                    let expected: Vec<i64> = ((query - window as i64 + 1).max(0)..=query).collect();
                    assert_eq!(places, expected, "{length} {window}");
                    query += 1;
                }
            }
            assert_eq!(query, length);
        }
    }
}
