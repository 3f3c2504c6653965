//! What a row of a dataset holds.

use serde_json::{Map, Value};

/// One row of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Plain text.
    Text(String),
    /// A chat, put into words by the tokenizer's chat template.
    Messages(Conversation),
    /// A prompt, of which nothing is learned by default, and its completion.
    PromptCompletion(Box<PromptCompletion>),
}

/// A chat and what its template is given besides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The messages, objects with `role` and `content`.
    pub messages: Vec<Value>,
    /// What the template is given besides.
    pub context: ChatContext,
}

/// What a chat template is given besides the messages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatContext {
    /// Tools the model may call, as JSON schemas.
    pub tools: Option<Value>,
    /// Further variables for the template (the column `chat_template_kwargs`).
    pub template_kwargs: Map<String, Value>,
}

/// A prompt and what is to follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptCompletion {
    /// What the model is given.
    pub prompt: Turn,
    /// What it is to say.
    pub completion: Turn,
    /// What the chat template is given besides, if these are messages.
    pub context: ChatContext,
}

/// One side of a prompt-completion row.
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
