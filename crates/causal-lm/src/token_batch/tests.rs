use super::*;

#[test]
fn a_batch_is_padded_to_its_bucket() {
    let padding = |multiple_of, min_rows| BucketPadding { multiple_of, token_id: 9, min_rows };
    let (ids, targets, lengths) = ([1, 2, 3, 4, 5], [2, 3, -1, 5, -1], [3, 2]);
    let plain = TokenBatch::new(&ids, &targets, &lengths, Device::Cpu).unwrap();
    let padded = TokenBatch::padded_to_bucket(&ids, &targets, &lengths, padding(4, 5)).unwrap().deep_copy().unwrap();
    let integers = |tensor: &Tensor| Vec::<i64>::try_from(tensor.to_kind(Kind::Int64)).unwrap();
    assert_eq!(integers(&padded.input_ids), [1, 2, 3, 4, 5, 9, 9, 9]);
    assert_eq!(integers(&padded.target_positions), [0, 1, 3, 2]);
    assert_eq!(integers(&padded.targets), [2, 3, 5, -1]);
    assert_eq!(integers(&padded.rows.cumulative_lengths), [0, 3, 5, 8, 8, 8]);
    assert_eq!(integers(&padded.rows.positions), [0, 1, 2, 0, 1, 0, 1, 2]);
    assert_eq!((padded.rows.longest(), padded.rows.longest_bound, padded.num_targets()), (3, 4, 3));
    assert!(padded.check_vocabulary(9).is_err(), "padding tokens have an embedding too");

    // Nothing to pad: only the bound differs.
    let same = TokenBatch::padded_to_bucket(&ids, &targets, &lengths, padding(1, 0)).unwrap();
    assert!(same.packed.narrow(0, 0, plain.packed.size()[0]).equal(&plain.packed));
    let scattered = TokenBatch::padded_to_bucket(&[7, 2, 7, 2, 0], &targets, &lengths, padding(8, 0)).unwrap();
    // No loss depends on tokens 2 and 4, which stand behind their row's last target.
    assert_eq!(integers(&scattered.tokens_by_id.unwrap()), [1, 3, 0, -1, -1, -1, -1, -1]);
    assert!(plain.tokens_by_id.is_none());
    // Every position has a target or is taken already.
    let all = TokenBatch::padded_to_bucket(&[1, 2], &[2, -1], &[2], padding(2, 0)).unwrap();
    assert_eq!((integers(&all.target_positions), integers(&all.targets)), (vec![0, 1], vec![2, -1]));
    let none = TokenBatch::padded_to_bucket(&[1, 2], &[-1, -1], &[2], padding(4, 0)).unwrap();
    assert_eq!((none.num_targets(), none.targets.size()), (0, vec![0]));

    let mut other = TokenBatch::padded_to_bucket(&[7, 7, 7, 7, 7], &[-1, 1, 1, -1, 1], &[1, 4], padding(4, 5)).unwrap();
    assert_eq!(other.shape(), padded.shape());
    other.overwrite(&padded).unwrap();
    assert_eq!(integers(&other.input_ids), integers(&padded.input_ids));
    assert_eq!(integers(&other.rows.cumulative_lengths), [0, 3, 5, 8, 8, 8]);
    assert!(other.overwrite(&plain).is_err());
}

#[test]
fn unfit_batches_are_refused() {
    for (ids, targets, lengths, expected) in [
        (vec![1, 2], vec![2], vec![2], "2 targets"),
        (vec![1, 2], vec![2, -100], vec![3], "rows of 2 tokens"),
        (vec![1, -2], vec![2, -100], vec![2], "token ids of 0 or more, found -2"),
        (vec![], vec![], vec![], "found none"),
        (vec![1], vec![-100], vec![1, 0], "row 1 empty"),
    ] {
        let message = TokenBatch::new(&ids, &targets, &lengths, Device::Cpu).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let batch = TokenBatch::new(&[1, 9], &[9, -100], &[2], Device::Cpu).unwrap();
    let batch = batch.to_device(Device::Cpu).unwrap();
    assert_eq!(batch.num_targets(), 1);
    assert!(batch.check_vocabulary(9).unwrap_err().to_string().contains("found 9"));
    assert!(batch.check_vocabulary(10).is_ok());
}
