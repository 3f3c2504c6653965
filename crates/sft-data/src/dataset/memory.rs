//! How much memory rows take, now and when they are tokenized, and a limit on it.

use super::{Alpaca, ByteSize, Conversation, PromptCompletion, Row, TokenizedRow, Turn};
use crate::Error;
use serde_json::{Map, Value};
use std::mem::size_of;
use std::path::Path;

/// Bytes that every row takes, even an empty one: its place in the list of rows, and later in the
/// lists of tokenized rows and examples, with the short lists that an example has. Measured: one
/// million rows of one letter take 304 bytes a row at most, of which 32 are the text.
const BYTES_PER_ROW: u64 = 272;
/// A token stands for about four bytes of English, three of Chinese or code.
const TEXT_BYTES_PER_TOKEN: u64 = 3;
/// Tokens that a chat template adds to a message.
const TOKENS_PER_MESSAGE: u64 = 8;
const BYTES_PER_ID: u64 = 4;
/// Rows of which only a part counts have labels too.
const BYTES_PER_LABEL: u64 = 8;

/// What rows may still take.
#[derive(Debug)]
pub(super) struct RowMemory {
    limit: Option<ByteSize>,
    used: u64,
}

impl RowMemory {
    pub(super) fn new(limit: Option<ByteSize>) -> Self {
        Self { limit, used: 0 }
    }

    /// Counts a row, the `number`th of a file.
    pub(super) fn spend(&mut self, row: &Row, path: &Path, number: u64) -> Result<(), Error> {
        let Some(limit) = self.limit else { return Ok(()) };
        self.used = self.used.saturating_add(bytes_of(row));
        if self.used <= limit.0 {
            return Ok(());
        }
        Err(Error::TooManyRows { path: path.to_owned(), rows: number, limit })
    }
}

/// An estimate of the memory that a row and its tokens take.
fn bytes_of(row: &Row) -> u64 {
    let mut size = Size::default();
    let bytes_per_token = match row {
        Row::Text(text) => {
            size.text(text);
            BYTES_PER_ID
        }
        Row::Messages(chat) => {
            let Conversation { messages, context } = &**chat;
            size.heap += block(size_of::<Conversation>());
            size.messages(messages);
            size.context(context.tools.as_ref(), &context.template_kwargs);
            BYTES_PER_ID
        }
        Row::PromptCompletion(row) => {
            let PromptCompletion { prompt, completion, context } = &**row;
            size.heap += block(size_of::<PromptCompletion>());
            for turn in [prompt, completion] {
                match turn {
                    Turn::Text(text) => size.text(text),
                    Turn::Messages(messages) => size.messages(messages),
                }
            }
            size.context(context.tools.as_ref(), &context.template_kwargs);
            BYTES_PER_ID + BYTES_PER_LABEL
        }
        Row::Alpaca(row) => {
            let Alpaca { instruction, input, output, history, system } = &**row;
            size.heap += block(size_of::<Alpaca>()) + block(size_of_val(history.as_slice()));
            let texts = [instruction, input, output, system].into_iter().chain(history.iter().flatten());
            texts.for_each(|text| size.text(text));
            size.messages += 3 + 2 * history.len() as u64;
            BYTES_PER_ID + BYTES_PER_LABEL
        }
        Row::Tokens(row) => {
            let TokenizedRow { input_ids, labels, completion_mask, assistant_masks } = &**row;
            let labels = [labels, completion_mask, assistant_masks].into_iter().flatten();
            let ranges: usize = labels.map(|labels| size_of_val(labels.ranges())).sum();
            size.heap +=
                block(size_of::<TokenizedRow>()) + 2 * (block(size_of_val(input_ids.as_slice())) + block(ranges));
            0
        }
    };
    let tokens = size.text.div_ceil(TEXT_BYTES_PER_TOKEN) + size.messages * TOKENS_PER_MESSAGE;
    BYTES_PER_ROW + size.heap + tokens * bytes_per_token
}

/// What the parts of a row add up to.
#[derive(Default)]
struct Size {
    /// Bytes of memory.
    heap: u64,
    /// Bytes of text.
    text: u64,
    messages: u64,
}

impl Size {
    fn text(&mut self, text: &str) {
        self.heap += block(text.len());
        self.text += text.len() as u64;
    }

    fn messages(&mut self, messages: &[Value]) {
        self.messages += messages.len() as u64;
        self.list(messages);
    }

    fn list(&mut self, list: &[Value]) {
        self.heap += block(size_of_val(list));
        list.iter().for_each(|value| self.value(value));
    }

    fn object(&mut self, object: &Map<String, Value>) {
        // An entry holds hash, key and value. A table of positions belongs to the entries, of which
        // 4, 8, 16 … have room, and an eighth stays free.
        let entry = size_of::<u64>() + size_of::<String>() + size_of::<Value>();
        let places = (object.len() * 8).div_ceil(7).next_power_of_two().max(4);
        self.heap += block(places * 7 / 8 * entry) + block(places * 9 + 16);
        for (key, value) in object {
            self.heap += block(key.len());
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(list) => self.list(list),
            Value::Object(object) => self.object(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn context(&mut self, tools: Option<&Value>, template_kwargs: &Map<String, Value>) {
        if let Some(tools) = tools {
            self.value(tools);
        }
        if !template_kwargs.is_empty() {
            self.object(template_kwargs);
        }
    }
}

/// Bytes that the allocator takes for a block: at least 32, and a multiple of 16.
fn block(bytes: usize) -> u64 {
    match bytes as u64 {
        0 => 0,
        bytes => (bytes + 8).next_multiple_of(16).max(32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_small() {
        assert_eq!(size_of::<Row>(), 24);
    }

    #[test]
    fn long_texts_count_more_than_short_ones() {
        assert_eq!(bytes_of(&Row::from("")), BYTES_PER_ROW);
        assert_eq!(bytes_of(&Row::from("a")), BYTES_PER_ROW + 32 + 4);
        let long = bytes_of(&Row::from("a".repeat(3_000_000)));
        assert!((7_000_000..7_001_000).contains(&long), "{long}");
        let chat = Conversation::from(vec![json!({"role": "user", "content": "x".repeat(3000)})]);
        let bytes = bytes_of(&Row::from(chat));
        assert!((7_000 + BYTES_PER_ROW..9_000).contains(&bytes), "{bytes}");
    }
}
