//! The chat templates of a tokenizer, and which of them a chat gets.

use super::chat_template::{ChatTemplate, tools_of};
use super::files::{DEFAULT_TEMPLATE, TemplateSources};
use crate::{ChatContext, Error};

/// The template for chats with tools.
const TOOL_TEMPLATE: &str = "tool_use";

/// The compiled templates. Others, such as `rag`, are only saved.
#[derive(Debug, Clone)]
pub(super) struct ChatTemplates {
    default: Option<ChatTemplate>,
    tool_use: Option<ChatTemplate>,
    names: Vec<String>,
}

impl ChatTemplates {
    pub(super) fn compile(mut sources: TemplateSources) -> Result<Self, Error> {
        let names = sources.names();
        let mut compile = |name| sources.take(name).map(ChatTemplate::compile).transpose();
        Ok(Self { default: compile(DEFAULT_TEMPLATE)?, tool_use: compile(TOOL_TEMPLATE)?, names })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The template for a chat: as in transformers, `tool_use` if there are tools and such a
    /// template, otherwise `default`.
    ///
    /// # Errors
    /// The names of all templates, if none fits.
    pub(super) fn choose(&self, context: &ChatContext) -> Result<&ChatTemplate, Vec<String>> {
        let special = self.tool_use.as_ref().filter(|_| tools_of(context).is_some());
        special.or(self.default.as_ref()).ok_or_else(|| self.names.clone())
    }
}
