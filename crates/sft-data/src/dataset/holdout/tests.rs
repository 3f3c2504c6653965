use super::*;
use crate::testing::{golden, message, numbers};

#[test]
fn permutations_equal_numpy() {
    for case in golden("orders.json")["permutations"].as_array().unwrap() {
        let (rows, seed) = (case["rows"].as_u64().unwrap() as usize, case["seed"].as_u64().unwrap());
        assert_eq!(permutation(rows, seed), numbers::<usize>(&case["order"]), "{rows} rows, seed {seed}");
    }
}

#[test]
fn rows_set_aside_equal_datasets() {
    for case in golden("orders.json")["held_out"].as_array().unwrap() {
        let rows: Vec<usize> = (0..case["rows"].as_u64().unwrap() as usize).collect();
        let (size, seed) = (case["test_size"].as_f64().unwrap(), case["seed"].as_u64().unwrap());
        let (train, test) = train_test_split(rows, size, seed).unwrap();
        assert_eq!(train, numbers::<usize>(&case["train"]));
        assert_eq!(test, numbers::<usize>(&case["test"]));
    }
}

#[test]
fn impossible_sizes_are_refused() {
    for size in [0.0, -0.5, 1.5, f64::NAN, f64::INFINITY] {
        let error = train_test_split(vec![(); 5], size, 0).unwrap_err();
        assert!(message(&error).starts_with("test_size = "), "{error}");
    }
    for (rows, size) in [(5, 5.0), (2, 3.0), (0, 0.5)] {
        let error = train_test_split(vec![(); rows], size, 0).unwrap_err();
        assert!(message(&error).contains(&format!("less than the {rows} rows")), "{error}");
    }
}

#[test]
fn a_single_row_cannot_be_set_aside() {
    let error = message(&num_test_rows(1, 0.5).unwrap_err());
    assert_eq!(error, "test_size = 0.5: the split has only one row, which is needed to train on: use more rows");
    let error = message(&num_test_rows(12_345, 20_000.0).unwrap_err());
    assert!(error.starts_with("test_size = 20000: less than the 12,345 rows of the split"), "{error}");
}
