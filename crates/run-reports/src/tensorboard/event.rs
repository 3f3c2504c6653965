//! The few protocol buffers of TensorBoard that an event file of figures and texts holds.
//!
//! Field numbers are those of `event.proto`, `summary.proto` and `tensor.proto` of TensorBoard.

/// An event: `Event` in `event.proto`.
pub(super) struct Event<'a> {
    /// Seconds since 1970.
    pub(super) wall_time: f64,
    pub(super) step: u64,
    pub(super) content: Content<'a>,
}

/// What an event tells.
pub(super) enum Content<'a> {
    /// The version of the format, always the first event of a file.
    FileVersion,
    /// The file goes on at the event's step. Earlier events of later steps do not count any more.
    SessionStart,
    /// A figure.
    Scalar { tag: &'a str, value: f32 },
    /// A text.
    Text { tag: &'a str, text: &'a str },
}

impl Event<'_> {
    /// The event in the encoding of protocol buffers.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let mut event = Message::default();
        event.double(1, self.wall_time);
        if self.step > 0 {
            event.varint(2, self.step);
        }
        match &self.content {
            Content::FileVersion => event.bytes(3, b"brain.Event:2"),
            Content::SessionStart => {
                let mut log = Message::default();
                log.varint(1, 1);
                event.bytes(7, &log.0);
            }
            Content::Scalar { tag, value } => {
                let mut figure = Message::default();
                figure.bytes(1, tag.as_bytes());
                figure.float(2, *value);
                event.bytes(5, &summary(&figure));
            }
            Content::Text { tag, text } => {
                let mut figure = Message::default();
                figure.bytes(1, format!("{tag}/text_summary").as_bytes());
                figure.bytes(8, &text_tensor(text));
                figure.bytes(9, &text_metadata());
                event.bytes(5, &summary(&figure));
            }
        }
        event.0
    }
}

/// `Summary` with one `Value`.
fn summary(value: &Message) -> Vec<u8> {
    let mut summary = Message::default();
    summary.bytes(1, &value.0);
    summary.0
}

/// `TensorProto`: one text, of shape `[1]`.
fn text_tensor(text: &str) -> Vec<u8> {
    const DT_STRING: u64 = 7;
    let mut dimension = Message::default();
    dimension.varint(1, 1);
    let mut shape = Message::default();
    shape.bytes(2, &dimension.0);
    let mut tensor = Message::default();
    tensor.varint(1, DT_STRING);
    tensor.bytes(2, &shape.0);
    tensor.bytes(8, text.as_bytes());
    tensor.0
}

/// `SummaryMetadata`: the text plugin shows it.
fn text_metadata() -> Vec<u8> {
    let mut plugin = Message::default();
    plugin.bytes(1, b"text");
    let mut metadata = Message::default();
    metadata.bytes(1, &plugin.0);
    metadata.0
}

/// A message as it is written: keys, each a field's number and its wire type, before values.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.number(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.number(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.number(field << 3 | wire_type);
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
