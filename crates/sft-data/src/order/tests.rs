use super::*;
use crate::testing::{golden, numbers};

#[test]
fn orders_equal_torch_randperm() {
    for case in golden("orders.json")["small"].as_array().unwrap() {
        let (rows, seed) = (case["rows"].as_u64().unwrap() as usize, case["seed"].as_u64().unwrap());
        assert_eq!(epoch_order(rows, seed), numbers::<usize>(&case["order"]), "{rows} rows, seed {seed}");
    }
}

#[test]
fn long_orders_equal_torch_randperm() {
    for case in golden("orders.json")["large"].as_array().unwrap() {
        let order = epoch_order(case["rows"].as_u64().unwrap() as usize, case["seed"].as_u64().unwrap());
        let sum: u128 = order.iter().enumerate().map(|(k, &i)| i as u128 * (k as u128 + 1)).sum();
        assert_eq!((sum % 2_147_483_647) as u64, case["checksum"].as_u64().unwrap());
    }
}

#[test]
fn an_order_is_a_permutation() {
    assert!(epoch_order(0, 1).is_empty());
    for rows in 1..50 {
        let mut order = epoch_order(rows, rows as u64);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..rows));
    }
}
