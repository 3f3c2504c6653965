use super::*;
use crate::testing::{Random, golden, numbers};
use std::num::NonZeroUsize;

fn example(lengths: &[usize], first_id: u32) -> Example {
    let total: usize = lengths.iter().sum();
    Example {
        input_ids: (first_id..first_id + total as u32).collect(),
        labels: None,
        segment_lengths: lengths.iter().map(|&length| length as u32).collect(),
        rows: vec![],
    }
}

#[test]
fn documents_do_not_predict_each_other() {
    let batch = collate(&[&example(&[3], 10), &example(&[2, 1], 20)]);
    assert_eq!(batch.input_ids, [10, 11, 12, 20, 21, 22]);
    assert_eq!(batch.lengths, [3, 2, 1]);
    assert_eq!(batch.num_rows, 2);
    assert_eq!(batch.targets(), [11, 12, IGNORE_INDEX, 21, IGNORE_INDEX, IGNORE_INDEX]);
    assert_eq!(batch.num_target_tokens(), 3);
    assert_eq!(batch.num_tokens(), 6);
}

#[test]
fn masked_labels_are_no_targets() {
    let masked = Example { labels: Some([false, true, false, true].into_iter().collect()), ..example(&[4], 10) };
    let batch = collate(&[&masked]);
    assert_eq!(batch.targets(), [11, IGNORE_INDEX, 13, IGNORE_INDEX]);
    assert_eq!(batch.num_target_tokens(), 2);
}

#[test]
fn an_empty_batch_is_empty() {
    let batch = collate(&[]);
    assert_eq!((batch.num_tokens(), batch.num_target_tokens(), batch.targets().len()), (0, 0, 0));
    assert_eq!(batch.clone().pad_to_longest(0, NonZeroUsize::MIN), batch);
}

#[test]
fn padding_equals_trl() {
    for case in golden("collate.json").as_array().unwrap() {
        let examples: Vec<Example> = case["examples"]
            .as_array()
            .unwrap()
            .iter()
            .map(|example| Example {
                input_ids: numbers(&example["input_ids"]),
                labels: example.get("labels").map(|labels| {
                    labels.as_array().unwrap().iter().map(|label| label.as_i64() != Some(IGNORE_INDEX)).collect()
                }),
                segment_lengths: vec![example["input_ids"].as_array().unwrap().len() as u32],
                rows: vec![],
            })
            .collect();
        let batch = collate(&examples.iter().collect::<Vec<_>>());
        let multiple_of = NonZeroUsize::new(case["pad_to_multiple_of"].as_u64().unwrap_or(1) as usize).unwrap();
        let padded = batch.clone().pad_to_longest(0, multiple_of);
        let rows = |flat: &[i64]| flat.chunks(padded.lengths[0]).map(<[i64]>::to_vec).collect::<Vec<_>>();
        assert_eq!(serde_json::json!(rows(&padded.input_ids)), case["input_ids"]);
        assert_eq!(serde_json::json!(rows(&padded.labels)), case["labels"]);
        assert_eq!(padded.num_target_tokens(), batch.num_target_tokens());
        assert_eq!(padded.num_tokens(), batch.num_tokens());
    }
}

#[test]
fn counts_agree_with_targets_whatever_the_shape() {
    let mut random = Random(3);
    for _ in 0..200 {
        let examples: Vec<Example> = (0..random.below(6))
            .map(|_| {
                let lengths: Vec<usize> = (0..1 + random.below(3)).map(|_| 1 + random.below(9)).collect();
                let mut example = example(&lengths, 100);
                if random.below(2) == 0 {
                    example.labels = Some(example.input_ids.iter().map(|_| random.below(3) != 0).collect());
                }
                example
            })
            .collect();
        let batch = collate(&examples.iter().collect::<Vec<_>>());
        let targets = batch.targets();
        assert_eq!(targets.len(), batch.input_ids.len());
        let count = targets.iter().filter(|&&target| target != IGNORE_INDEX).count();
        assert_eq!(batch.num_target_tokens(), count);
        assert_eq!(count, examples.iter().map(Example::num_targets).sum::<usize>());
        // A target is the very next token.
        for (position, &target) in targets.iter().enumerate().filter(|&(_, &target)| target != IGNORE_INDEX) {
            assert_eq!(target, batch.input_ids[position + 1]);
        }
        let padded = batch.clone().pad_to_longest(7, NonZeroUsize::new(1 + random.below(8)).unwrap());
        assert_eq!((padded.num_tokens(), padded.num_target_tokens()), (batch.num_tokens(), count));
        assert!(padded.lengths.iter().all(|&length| length == padded.lengths[0]));
    }
}
