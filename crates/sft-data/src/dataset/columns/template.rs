//! Rows whose text a Jinja template makes of any columns.

use super::format::other;
use super::{RowColumns, RowFormat};
use crate::tokenizer::TextTemplate;
use crate::untrusted::regular_file;
use crate::{Error, Row};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// A template longer than this is none.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct TemplateColumns {
    template: TextTemplate,
}

/// How rows are made by a template: Jinja, or a file that holds it.
pub(in crate::dataset) fn by_template(text_template: &str, columns: &[String]) -> Result<RowColumns, Error> {
    let refuse = |fix: &str| Error::config("text_template", format!("{text_template:?}"), fix);
    let is_jinja = text_template.contains("{{") || text_template.contains("{%");
    let source = match is_jinja {
        true => text_template.to_owned(),
        false => {
            let path = Path::new(text_template);
            let bytes = regular_file::read(path, MAX_BYTES).map_err(|source| Error::io(path, source))?;
            String::from_utf8(bytes).map_err(|_| refuse("the file is not text in UTF-8; write it in UTF-8"))?
        }
    };
    let template = TextTemplate::compile(source)?;
    if template.variables().is_empty() {
        return Err(refuse("it names no column; write a column as {{ column }}"));
    }
    if let Some(missing) = template.variables().iter().find(|name| !columns.contains(name)) {
        let fix = format!("there is no column `{missing}`; columns are {}", crate::error::listed(columns));
        return Err(refuse(&fix));
    }
    Ok(other(TemplateColumns { template }))
}

impl fmt::Display for TemplateColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "texts that `text_template` makes of columns `{}`", self.template.variables().join("`, `"))
    }
}

impl RowFormat for TemplateColumns {
    fn required(&self) -> Vec<&str> {
        self.template.variables().iter().map(String::as_str).collect()
    }

    fn optional(&self) -> Vec<&str> {
        Vec::new()
    }

    fn row(&self, take: &mut dyn FnMut(&str) -> Value) -> Result<Row, String> {
        let record = self.template.variables().iter().map(|name| (name.clone(), take(name))).collect();
        match self.template.render(record) {
            Ok(text) => Ok(Row::Text(text)),
            Err(error) => Err(format!("`text_template`: {}", with_sources(&error))),
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_sources(source)),
        None => error.to_string(),
    }
}
