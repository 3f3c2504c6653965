//! The rows of a dataset.

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
