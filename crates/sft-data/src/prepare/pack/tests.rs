use super::super::PackingStrategy;
use super::*;
use crate::testing::{Random, golden, numbers};

fn rows(ids: Vec<Vec<u32>>) -> Vec<TokenRow> {
    ids.into_iter().zip(1..).map(|(input_ids, number)| TokenRow { input_ids, number, ..TokenRow::default() }).collect()
}

/// Like `prepare`: long rows are cut off before packing, unless the strategy splits them.
fn pack(mut rows: Vec<TokenRow>, packing: PackingStrategy, limit: usize) -> Vec<Example> {
    match packing {
        PackingStrategy::BestFitDecreasing => {
            rows.iter_mut().for_each(|row| *row = row.part(0..limit.min(row.input_ids.len())));
            best_fit_decreasing(rows, limit)
        }
        PackingStrategy::BestFitDecreasingSplit => best_fit_decreasing(rows, limit),
        PackingStrategy::Wrapped => wrapped(&rows, limit),
    }
}

#[test]
fn packing_equals_trl() {
    for case in golden("packing.json").as_array().unwrap() {
        let packing: PackingStrategy = serde_json::from_value(case["strategy"].clone()).unwrap();
        let limit = case["limit"].as_u64().unwrap() as usize;
        if case.get("rows").is_none() {
            // Several lots of rows, compared by a checksum of all ids in order.
            let lengths: Vec<usize> = numbers(&case["row_lengths"]);
            let row = |(index, &length): (usize, &usize)| (0..length).map(|i| (index * 1000 + i) as u32).collect();
            let packed = pack(rows(lengths.iter().enumerate().map(row).collect()), packing, limit);
            let num_missing = case["num_examples"].as_u64().unwrap() as usize - packed.len();
            if num_missing == 0 {
                let ids = packed.iter().flat_map(|example| &example.input_ids);
                let sum: u64 = ids.zip(1..).map(|(&id, k)| u64::from(id) * k).sum();
                assert_eq!(sum % 2_147_483_647, case["checksum"], "{packing:?}");
            }
            assert!(num_missing == 0 || packing != PackingStrategy::BestFitDecreasing && num_missing <= 3);
            continue;
        }
        let ids: Vec<Vec<u32>> = case["rows"].as_array().unwrap().iter().map(numbers).collect();
        let packed = pack(rows(ids), packing, limit);
        let expected_ids: Vec<Vec<u32>> = case["input_ids"].as_array().unwrap().iter().map(numbers).collect();
        let expected_lengths: Vec<Vec<u32>> = match case["seq_lengths"].as_array() {
            Some(lengths) => lengths.iter().map(numbers).collect(),
            None => expected_ids.iter().map(|ids| vec![ids.len() as u32]).collect(),
        };
        // TRL keeps examples that predict nothing; this crate drops them.
        let expected: Vec<Example> = expected_ids
            .into_iter()
            .zip(expected_lengths)
            .map(|(input_ids, segment_lengths)| Example { input_ids, labels: None, segment_lengths, rows: vec![] })
            .filter(has_targets)
            .collect();
        let packed: Vec<Example> = packed.into_iter().map(|example| Example { rows: vec![], ..example }).collect();
        assert_eq!(packed, expected, "{packing:?} to {limit}");
    }
}

#[test]
fn every_token_is_there_once_and_nothing_is_too_long() {
    let mut random = Random(11);
    for _ in 0..60 {
        let limit = 2 + random.below(20);
        let mut next_id = 0;
        let ids: Vec<Vec<u32>> = (0..1 + random.below(40))
            .map(|_| {
                let length = 2 + random.below(3 * limit) as u32;
                next_id += length;
                (next_id - length..next_id).collect()
            })
            .collect();
        for packing in
            [PackingStrategy::BestFitDecreasing, PackingStrategy::BestFitDecreasingSplit, PackingStrategy::Wrapped]
        {
            let mut input = rows(ids.clone());
            for row in &mut input {
                row.labels = Some(row.input_ids.iter().map(|_| true).collect());
            }
            let packed = pack(input, packing, limit);
            let mut seen: Vec<u32> = packed.iter().flat_map(|example| example.input_ids.clone()).collect();
            seen.sort_unstable();
            let num_seen = seen.len();
            seen.dedup();
            assert_eq!(seen.len(), num_seen, "a token twice");
            let expected = match packing {
                PackingStrategy::BestFitDecreasing => ids.iter().map(|row| row.len().min(limit)).sum(),
                _ => next_id as usize,
            };
            // An example that is one piece of one token predicts nothing and is dropped.
            let num_missing = expected - num_seen;
            match packing {
                PackingStrategy::BestFitDecreasingSplit => {
                    assert!(num_missing <= ids.iter().filter(|row| row.len() % limit == 1).count());
                }
                PackingStrategy::Wrapped => assert!(num_missing <= 1),
                _ => assert_eq!(num_missing, 0),
            }
            for example in &packed {
                let total: u32 = example.segment_lengths.iter().sum();
                assert_eq!(total as usize, example.input_ids.len());
                assert!(example.input_ids.len() <= limit);
                let has_part = |row: &Vec<u32>| row.iter().any(|id| example.input_ids.contains(id));
                let mut expected: Vec<u64> = (1..).zip(&ids).filter(|(_, row)| has_part(row)).map(|(n, _)| n).collect();
                let mut found = example.rows.clone();
                found.sort_unstable();
                found.dedup();
                expected.sort_unstable();
                assert_eq!(found, expected, "{packing:?}");
                assert!(example.labels.is_some());
                assert!(example.label_ids().zip(&example.input_ids).all(|(label, &id)| label == i64::from(id)));
                if packing == PackingStrategy::BestFitDecreasing {
                    // Each segment is a row: consecutive ids that start with the row's first id.
                    let mut start = 0;
                    for &length in &example.segment_lengths {
                        let segment = &example.input_ids[start..start + length as usize];
                        assert!(segment.windows(2).all(|pair| pair[1] == pair[0] + 1));
                        assert!(ids.iter().any(|row| row[0] == segment[0]));
                        start += length as usize;
                    }
                }
            }
        }
    }
}

#[test]
fn rows_with_and_without_labels_share_an_example() {
    let masked = TokenRow {
        input_ids: vec![1, 2, 3],
        labels: Some([false, true, true].into_iter().collect()),
        number: 7,
        ..TokenRow::default()
    };
    let plain = TokenRow { input_ids: vec![4, 5], number: 6, ..TokenRow::default() };
    let packed = best_fit_decreasing(vec![plain, masked], 5);
    assert_eq!(packed.len(), 1);
    assert!(packed[0].label_ids().eq([-100, 2, 3, 4, 5]));
    assert_eq!(packed[0].segment_lengths, [3, 2]);
    assert_eq!(packed[0].rows, [7, 6]);
}

#[test]
fn labels_stay_with_their_tokens() {
    let mut random = Random(5);
    for _ in 0..200 {
        let limit = 3 + random.below(9);
        let mut masked =
            rows((0..1 + random.below(6)).map(|_| (0..40).map(|_| random.below(99) as u32).collect()).collect());
        for row in &mut masked {
            row.labels = Some(row.input_ids.iter().map(|id| id % 3 > 0).collect());
        }
        for example in best_fit_decreasing(masked.clone(), limit).into_iter().chain(wrapped(&masked, limit)) {
            let expected = |&id: &u32| if id % 3 > 0 { i64::from(id) } else { crate::IGNORE_INDEX };
            assert!(example.label_ids().eq(example.input_ids.iter().map(expected)));
        }
    }
}
