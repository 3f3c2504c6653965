//! The demo's text: short rows, half in English and half in Chinese, generated from hand-written
//! facts and patterns.
//!
//! Each topic is a function that writes one row. A fact appears in several patterns, so that a
//! model that learned it from the training rows does better on the test rows.

mod chinese;
mod english;

use crate::random::Random;
use std::collections::HashSet;

/// The rows of each split.
pub struct Corpus {
    pub train: Vec<String>,
    pub test: Vec<String>,
}

/// A topic: writes one row.
type Topic = fn(&mut Random) -> String;

/// Writes `train_rows + test_rows` different rows, with equal parts of each topic, and splits them
/// at random.
pub fn write(train_rows: usize, test_rows: usize, random: &mut Random) -> Corpus {
    let topics: Vec<&Topic> = english::TOPICS.iter().zip(&chinese::TOPICS).flat_map(|(a, b)| [a, b]).collect();
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for topic in topics.iter().cycle() {
        if rows.len() == train_rows + test_rows {
            break;
        }
        // A topic that finds no new row is skipped in this round.
        if let Some(row) = (0..50).map(|_| topic(random)).find(|row| !seen.contains(row)) {
            seen.insert(row.clone());
            rows.push(row);
        }
    }
    random.shuffle(&mut rows);
    let test = rows.split_off(train_rows);
    Corpus { train: rows, test }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_different_short_and_in_both_languages() {
        let corpus = write(480, 64, &mut Random::new(1));
        assert_eq!((corpus.train.len(), corpus.test.len()), (480, 64));
        let all: HashSet<_> = corpus.train.iter().chain(&corpus.test).collect();
        assert_eq!(all.len(), 544);
        let is_chinese = |row: &String| row.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        for split in [&corpus.train, &corpus.test] {
            let chinese = split.iter().filter(|row| is_chinese(row)).count();
            assert!(chinese * 3 > split.len() && chinese * 3 < split.len() * 2, "{chinese} of {} Chinese", split.len());
        }
        for row in all {
            assert!((20..400).contains(&row.len()), "{row}");
            assert!(row.ends_with(['.', '"', '。', '”']), "{row}");
            assert!(!row.contains(['{', '}']) && !row.contains("  ") && !row.contains(".."), "{row}");
        }
    }

    #[test]
    fn one_seed_gives_one_corpus() {
        let rows = |seed| write(40, 8, &mut Random::new(seed)).train;
        assert_eq!(rows(7), rows(7));
        assert_ne!(rows(7), rows(8));
    }
}
