//! In which order the rows of several datasets come.

use super::super::numpy::Generator;
use super::MixStrategy;

/// NumPy is asked for so many draws at a time.
const DRAWS_AT_ONCE: usize = 1000;

/// How rows alternate.
pub(super) struct Order<'a> {
    pub(super) strategy: MixStrategy,
    /// How likely each dataset is. `None`: in turn.
    pub(super) probabilities: Option<&'a [f64]>,
    pub(super) seed: u64,
}

impl Order<'_> {
    /// Dataset and row of each row of the mixture. `lengths` are the numbers of rows. The error is
    /// a dataset without rows, which cannot be interleaved.
    pub(super) fn of(&self, lengths: &[usize]) -> Result<Vec<(usize, usize)>, usize> {
        if self.strategy == MixStrategy::Concat {
            let rows = lengths.iter().enumerate();
            return Ok(rows.flat_map(|(source, length)| (0..*length).map(move |row| (source, row))).collect());
        }
        let can_come = |source: &usize| self.probabilities.is_none_or(|probabilities| probabilities[*source] > 0.0);
        if let Some(empty) = (0..lengths.len()).filter(can_come).find(|source| lengths[*source] == 0) {
            return Err(empty);
        }
        Ok(match self.probabilities {
            None => self.in_turn(lengths),
            Some(probabilities) => self.at_random(lengths, probabilities),
        })
    }

    fn in_turn(&self, lengths: &[usize]) -> Vec<(usize, usize)> {
        let (shortest, longest) = (lengths.iter().min().copied(), lengths.iter().max().copied());
        let rounds = if self.strategy == MixStrategy::InterleaveUnder { shortest } else { longest };
        let is_once = self.strategy == MixStrategy::InterleaveOnce;
        let round = |round: usize| {
            let left = lengths.iter().enumerate().filter(move |(_, length)| !is_once || round < **length);
            left.map(move |(source, length)| (source, round % length))
        };
        (0..rounds.unwrap_or(0)).flat_map(round).collect()
    }

    fn at_random(&self, lengths: &[usize], probabilities: &[f64]) -> Vec<(usize, usize)> {
        let mut draws = Draws::new(probabilities, self.seed);
        let mut counts = vec![0usize; lengths.len()];
        let mut order = Vec::new();
        let is_once = self.strategy == MixStrategy::InterleaveOnce;
        loop {
            let source = draws.next();
            if !is_once || counts[source] < lengths[source] {
                order.push((source, counts[source] % lengths[source].max(1)));
            }
            counts[source] += 1;
            let mut ended =
                counts.iter().zip(lengths).zip(probabilities).filter(|(_, probability)| **probability > 0.0);
            let mut is_ended = |((count, length), _): ((&usize, &usize), &f64)| count >= length;
            let is_over = match self.strategy {
                MixStrategy::InterleaveUnder => ended.any(&mut is_ended),
                _ => ended.all(&mut is_ended),
            };
            if is_over {
                return order;
            }
        }
    }
}

/// `Generator.choice(n, size=1000, p=probabilities)` of NumPy, over and over.
struct Draws {
    generator: Generator,
    cumulative: Vec<f64>,
    block: Vec<usize>,
    at: usize,
}

impl Draws {
    fn new(probabilities: &[f64], seed: u64) -> Self {
        let mut sum = 0.0;
        let sums = probabilities.iter().map(|probability| {
            sum += probability;
            sum
        });
        let cumulative: Vec<f64> = sums.collect();
        let all = cumulative.last().copied().unwrap_or(1.0);
        let cumulative = cumulative.into_iter().map(|sum| sum / all).collect();
        Self { generator: Generator::new(seed), cumulative, block: Vec::new(), at: 0 }
    }

    fn next(&mut self) -> usize {
        if self.at == self.block.len() {
            let last = self.cumulative.len().saturating_sub(1);
            let (generator, cumulative) = (&mut self.generator, &self.cumulative);
            let draw = |_| {
                let uniform = generator.next_f64();
                cumulative.partition_point(|bound| *bound <= uniform).min(last)
            };
            self.block = (0..DRAWS_AT_ONCE).map(draw).collect();
            self.at = 0;
        }
        self.at += 1;
        self.block[self.at - 1]
    }
}
