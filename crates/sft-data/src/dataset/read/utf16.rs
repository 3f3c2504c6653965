//! UTF-16 as UTF-8.

use encoding_rs::{Decoder, DecoderResult, Encoding};
use std::io::{self, BufRead, Read};

/// Enough for any character, and for the states of the decoder.
const MIN_OUTPUT_BYTES: usize = 16;

/// The content is not valid in its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not valid UTF-16; is it damaged or cut off? Convert it to UTF-8")]
pub(super) struct NotUtf16;

/// Decodes what `inner` reads. A byte order mark at the start is left out.
pub(super) struct Utf16<R> {
    inner: R,
    decoder: Decoder,
    /// Decoded bytes that have not been read yet.
    decoded: Vec<u8>,
    position: usize,
    is_over: bool,
}

impl<R: BufRead> Utf16<R> {
    pub(super) fn new(inner: R, encoding: &'static Encoding) -> Self {
        let decoder = encoding.new_decoder_with_bom_removal();
        Self { inner, decoder, decoded: Vec::new(), position: 0, is_over: false }
    }

    fn decode_more(&mut self) -> io::Result<()> {
        let input = self.inner.fill_buf()?;
        let is_last = input.is_empty();
        let most = self.decoder.max_utf8_buffer_length_without_replacement(input.len());
        self.decoded.resize(most.unwrap_or_default().max(MIN_OUTPUT_BYTES), 0);
        let (result, read, written) =
            self.decoder.decode_to_utf8_without_replacement(input, &mut self.decoded, is_last);
        self.inner.consume(read);
        self.decoded.truncate(written);
        self.position = 0;
        self.is_over = is_last;
        match result {
            DecoderResult::Malformed(..) => Err(io::Error::new(io::ErrorKind::InvalidData, NotUtf16)),
            DecoderResult::InputEmpty | DecoderResult::OutputFull => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.decoded.len() {
            if self.is_over {
                return Ok(0);
            }
            self.decode_more()?;
        }
        let length = buffer.len().min(self.decoded.len() - self.position);
        buffer[..length].copy_from_slice(&self.decoded[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn decoded(bytes: &[u8], encoding: &'static Encoding) -> io::Result<String> {
        let mut text = String::new();
        // A small buffer splits characters.
        Utf16::new(BufReader::with_capacity(3, bytes), encoding).read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn text_is_decoded_and_damage_is_an_error() {
        let text = "one 中文 🙂\n".repeat(100);
        let big: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(decoded(&big, encoding_rs::UTF_16BE).unwrap(), text);
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decoded(&little, encoding_rs::UTF_16LE).unwrap(), text);
        assert!(decoded(&little[..little.len() - 1], encoding_rs::UTF_16LE).is_err());
        assert!(decoded(&[0x00, 0xd8, b'a', 0], encoding_rs::UTF_16LE).is_err());
        assert_eq!(decoded(&[], encoding_rs::UTF_16LE).unwrap(), "");
    }
}
