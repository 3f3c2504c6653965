use super::*;
use crate::testing::golden_path;
use std::io::Cursor;

fn stated(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<Stated, String> {
    let mut bytes = std::fs::read(golden_path("arrow").join(name)).unwrap();
    change(&mut bytes);
    let mut file = Cursor::new(&bytes);
    file.set_position(if bytes.starts_with(b"ARROW1") { 8 } else { 0 });
    check(file, bytes.len() as u64).map_err(|error| error.to_string())
}

/// Where these bytes are first.
fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

#[test]
fn rows_and_the_end_are_found_in_every_arrangement() {
    for (name, rows) in [("stream.arrow", 3), ("batches.arrow", 5), ("file_none.arrow", 3), ("file_lz4.arrow", 3)] {
        let found = stated(name, |_| ()).unwrap();
        assert_eq!((found.rows, found.has_end), (rows, true), "{name}");
    }
    // Eight bytes are the mark at the end of a stream.
    let without = stated("stream.arrow", |bytes| bytes.truncate(bytes.len() - 8)).unwrap();
    assert_eq!((without.rows, without.has_end), (3, false));
}

#[test]
fn a_buffer_cannot_state_more_than_it_can_hold() {
    // The frame of the text begins after the eight bytes that state its size.
    let error = stated("file_zstd.arrow", |bytes| {
        let frame = find(bytes, &[0x28, 0xb5, 0x2f, 0xfd]);
        bytes[frame - 8..frame].copy_from_slice(&(1u64 << 40).to_le_bytes());
    });
    assert!(error.clone().unwrap_err().contains("states 1 TiB"), "{error:?}");
}

#[test]
fn a_batch_cannot_state_rows_that_it_has_no_bytes_for() {
    // The number of rows is in the header of the batch, and in the nodes of its columns.
    let error = stated("stream.arrow", |bytes| {
        let start = find(&bytes[8..], &u32::MAX.to_le_bytes()) + 8;
        let rows = start + find(&bytes[start..], &3u64.to_le_bytes());
        bytes[rows..rows + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    });
    assert!(error.is_err(), "{error:?}");
}

#[test]
fn a_list_cannot_hold_more_values_than_its_batch() {
    let mut values = Values::of_batch(3);
    values.spend(2).unwrap();
    values.spend(1).unwrap();
    assert!(values.spend(1).unwrap_err().contains("more values than the file"));
}
