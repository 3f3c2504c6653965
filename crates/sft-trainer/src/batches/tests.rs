use super::*;

fn split(order: RowOrder) -> SplitBatches {
    let rows = |id: u32| vec![u64::from(id) + 11];
    let example = |id: u32| Example { input_ids: vec![id; 2], labels: None, segment_lengths: vec![2], rows: rows(id) };
    SplitBatches {
        examples: (0..5).map(example).collect(),
        batch_size: 2,
        order,
        padded_to_multiple_of: None,
        pad_token_id: 0,
        bucket: None,
        device: Device::Cpu,
    }
}

fn ids(split: &SplitBatches, epoch: u64, first: usize) -> Vec<Vec<i64>> {
    split
        .batches(epoch, first)
        .unwrap()
        .map(|batch| Vec::try_from(batch.unwrap().tokens.input_ids()).unwrap())
        .collect()
}

#[test]
fn the_last_partial_batch_is_kept_and_skipping_changes_nothing() {
    let sequential = split(RowOrder::Sequential);
    assert_eq!(ids(&sequential, 0, 0), [vec![0, 0, 1, 1], vec![2, 2, 3, 3], vec![4, 4]]);
    let shuffled = split(RowOrder::Shuffled { seed: 42 });
    let whole = ids(&shuffled, 3, 0);
    assert_eq!(ids(&shuffled, 3, 1), whole[1..]);
    assert_ne!(whole, ids(&shuffled, 4, 0));
    assert_eq!(shuffled.num_batches(), 3);
}

#[test]
fn parts_of_a_batch_are_its_rows_in_order() {
    let split = SplitBatches { batch_size: 5, ..split(RowOrder::Shuffled { seed: 42 }) };
    let batch = split.batches(0, 0).unwrap().next().unwrap().unwrap();
    let ids = |batch: &MicroBatch| Vec::<i64>::try_from(batch.tokens.input_ids()).unwrap();
    let parts = split.split_batch(&batch, 2).unwrap();
    assert_eq!(parts.iter().map(BatchInfo::num_rows).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(parts.iter().flat_map(ids).collect::<Vec<_>>(), ids(&batch));
    let numbers: Vec<u64> = ids(&batch).iter().step_by(2).map(|id| *id as u64 + 11).collect();
    assert_eq!(split.row_numbers(&batch), numbers);
}

#[test]
fn filling_up_is_a_row_that_counts_for_nothing() {
    let rows = [0, 1, 2];
    let plain = split(RowOrder::Sequential).micro_batch(&rows).unwrap();
    let bucket = Some(BucketPadding { multiple_of: 16, token_id: 0, min_rows: 4 });
    let filled = SplitBatches { bucket, ..split(RowOrder::Sequential) }.micro_batch(&rows).unwrap();
    assert_eq!(filled.tokens.input_ids().size()[0] % 16, 0);
    assert!(filled.tokens.input_ids().size()[0] > plain.tokens.input_ids().size()[0]);
    assert_eq!(filled.tokens.num_targets(), plain.tokens.num_targets());
    assert_eq!(
        (filled.num_rows(), filled.num_tokens(), filled.num_target_tokens()),
        (plain.num_rows(), plain.num_tokens(), plain.num_target_tokens())
    );
}
