//! The rows of a dataset.

use crate::Labels;
use serde_json::{Map, Value};

/// One row of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Plain text.
    Text(String),
    /// A chat, which the tokenizer's chat template turns into text.
    Messages(Box<Conversation>),
    /// A prompt and its completion. By default only the completion counts in the loss.
    PromptCompletion(Box<PromptCompletion>),
    /// An instruction and its answer, in the format of Alpaca.
    Alpaca(Box<Alpaca>),
    /// Token ids that another program made.
    Tokens(Box<TokenizedRow>),
}

/// The messages of a chat, and further inputs of the chat template.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The messages: objects with `role` and `content`.
    pub messages: Vec<Value>,
    /// Further inputs of the chat template.
    pub context: ChatContext,
}

/// What a chat template is given in addition to the messages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatContext {
    /// Tools that the model may call, as JSON schemas.
    pub tools: Option<Value>,
    /// Further variables for the template, from the column `chat_template_kwargs`.
    pub template_kwargs: Map<String, Value>,
}

/// A prompt and its completion.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptCompletion {
    /// The text or messages that the model is given.
    pub prompt: Turn,
    /// What the model is to answer.
    pub completion: Turn,
    /// Further inputs of the chat template, used if the two are messages.
    pub context: ChatContext,
}

/// The prompt or the completion of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// Plain text.
    Text(String),
    /// Chat messages.
    Messages(Vec<Value>),
}

/// An instruction and its answer, in the format of Alpaca. The chat template turns it into text, or
/// the text that Alpaca was trained with, if the tokenizer has no template.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alpaca {
    /// What to do.
    pub instruction: String,
    /// Further input. May be empty.
    pub input: String,
    /// The answer.
    pub output: String,
    /// Earlier instructions and their answers, in order.
    pub history: Vec<[String; 2]>,
    /// The system message. May be empty.
    pub system: String,
}

/// Token ids that another program made, and which of them count in the loss.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenizedRow {
    /// Token ids, `[t]`.
    pub input_ids: Vec<u32>,
    /// The tokens that count in the loss. If this is given, the masks below are not used.
    pub labels: Option<Labels>,
    /// The tokens of the completion. Used if only the completion is to count.
    pub completion_mask: Option<Labels>,
    /// The tokens that the assistant says. Others never count.
    pub assistant_masks: Option<Labels>,
}

impl From<Alpaca> for Row {
    fn from(row: Alpaca) -> Self {
        Self::Alpaca(Box::new(row))
    }
}

impl From<TokenizedRow> for Row {
    fn from(row: TokenizedRow) -> Self {
        Self::Tokens(Box::new(row))
    }
}

impl From<Vec<Value>> for Conversation {
    fn from(messages: Vec<Value>) -> Self {
        Self { messages, context: ChatContext::default() }
    }
}

impl From<&str> for Row {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Row {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Conversation> for Row {
    fn from(conversation: Conversation) -> Self {
        Self::Messages(Box::new(conversation))
    }
}

impl From<PromptCompletion> for Row {
    fn from(row: PromptCompletion) -> Self {
        Self::PromptCompletion(Box::new(row))
    }
}
