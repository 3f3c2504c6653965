use super::*;

#[test]
fn rows_of_one_length_are_grouped() {
    let rows = Rows::new(&[3, 3, 1, 3], Device::Cpu).unwrap();
    let group = |start, num_rows, length| RowGroup { start, num_rows, length };
    assert_eq!(rows.groups(), [group(0, 2, 3), group(6, 1, 1), group(7, 1, 3)]);
    assert_eq!(rows.of_one_length(), None);
    assert_eq!(Rows::new(&[4, 4], Device::Cpu).unwrap().of_one_length(), Some(group(0, 2, 4)));
    let positions = Vec::<f32>::try_from(&rows.positions).unwrap();
    assert_eq!(positions, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 2.0]);
    assert_eq!(Vec::<i32>::try_from(&rows.cumulative_lengths).unwrap(), [0, 3, 6, 7, 10]);
    assert_eq!((rows.num_tokens(), rows.longest()), (10, 3));
}

#[test]
fn a_batch_is_filled_up_and_unpacked_as_it_was() {
    let filling = |multiple, rows| Filling { multiple, token_id: 9, rows };
    let (ids, targets, lengths) = ([1, 2, 3, 4, 5], [2, 3, -1, 5, -1], [3, 2]);
    let plain = TokenBatch::new(&ids, &targets, &lengths, Device::Cpu).unwrap();
    let filled = TokenBatch::filled(&ids, &targets, &lengths, filling(4, 5)).unwrap().copied().unwrap();
    let integers = |tensor: &Tensor| Vec::<i64>::try_from(tensor.to_kind(Kind::Int64)).unwrap();
    assert_eq!(integers(&filled.input_ids), [1, 2, 3, 4, 5, 9, 9, 9]);
    assert_eq!(integers(&filled.target_positions), [0, 1, 3, 2]);
    assert_eq!(integers(&filled.targets), [2, 3, 5, -1]);
    assert_eq!(integers(&filled.rows.cumulative_lengths), [0, 3, 5, 8, 8, 8]);
    assert_eq!(integers(&filled.rows.positions), [0, 1, 2, 0, 1, 0, 1, 2]);
    assert_eq!((filled.rows.longest(), filled.rows.longest_bound, filled.num_targets()), (3, 4, 3));
    assert!(filled.check_vocabulary(9).is_err(), "what it is filled with has an embedding too");

    // Nothing to fill: as it was, but for the bound.
    let same = TokenBatch::filled(&ids, &targets, &lengths, filling(1, 0)).unwrap();
    assert!(same.packed.narrow(0, 0, plain.packed.size()[0]).equal(&plain.packed));
    let scattered = TokenBatch::filled(&[7, 2, 7, 2, 0], &targets, &lengths, filling(8, 0)).unwrap();
    // Behind a row's last target nothing is learned: tokens 2 and 4.
    assert_eq!(integers(&scattered.tokens_by_id.unwrap()), [1, 3, 0, -1, -1, -1, -1, -1]);
    assert!(plain.tokens_by_id.is_none());
    // All places have a target or are taken.
    let all = TokenBatch::filled(&[1, 2], &[2, -1], &[2], filling(2, 0)).unwrap();
    assert_eq!((integers(&all.target_positions), integers(&all.targets)), (vec![0, 1], vec![2, -1]));
    let none = TokenBatch::filled(&[1, 2], &[-1, -1], &[2], filling(4, 0)).unwrap();
    assert_eq!((none.num_targets(), none.targets.size()), (0, vec![0]));

    let mut other = TokenBatch::filled(&[7, 7, 7, 7, 7], &[-1, 1, 1, -1, 1], &[1, 4], filling(4, 5)).unwrap();
    assert_eq!(other.shape(), filled.shape());
    other.overwrite(&filled).unwrap();
    assert_eq!(integers(&other.input_ids), integers(&filled.input_ids));
    assert_eq!(integers(&other.rows.cumulative_lengths), [0, 3, 5, 8, 8, 8]);
    assert!(other.overwrite(&plain).is_err());
}

#[test]
fn unfit_batches_are_refused() {
    for (ids, targets, lengths, expected) in [
        (vec![1, 2], vec![2], vec![2], "2 targets"),
        (vec![1, 2], vec![2, -100], vec![3], "rows of 2 tokens"),
        (vec![1, -2], vec![2, -100], vec![2], "token ids from 0 on, found -2"),
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
