//! TFRecord, the framing of event files.
//!
//! A record is the length of its content (8 bytes), the checksum of those bytes, the content, and
//! the checksum of the content (4 bytes each, all little-endian).

/// Turned and shifted, so that the checksum of data that holds checksums is still a good one.
const MASK: u32 = 0xa282_ead8;

/// The content as a record.
pub(super) fn framed(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(content.len() + 16);
    record.extend(length);
    record.extend(masked_checksum(&length).to_le_bytes());
    record.extend(content);
    record.extend(masked_checksum(content).to_le_bytes());
    record
}

fn masked_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}
