//! The files of a tokenizer. Their bytes are kept so that they can be written again unchanged.

use crate::Error;
use crate::untrusted::panics::catch_in_tokenizers;
use crate::untrusted::{regular_file, tokenizer_expansion};
use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Every file that Hugging Face tokenizers read or write, relative to a model's folder, with
/// `tokenizer.json` first. A `*` stands for any text.
pub const TOKENIZER_FILES: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "additional_chat_templates/*.jinja",
];
const CONFIG_FILE: &str = "tokenizer_config.json";
const TEMPLATE_FILE: &str = "chat_template.jinja";
/// The largest file of a tokenizer. Real ones have up to 100 MB.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// A folder with further, named templates.
const EXTRA_TEMPLATES: &str = "additional_chat_templates";
/// The name of the template that is used unless there is a more special one.
pub(super) const DEFAULT_TEMPLATE: &str = "default";

/// A chat template, and the file that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TemplateSource {
    pub(super) file: String,
    pub(super) text: String,
}

impl TemplateSource {
    fn new(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned() }
    }
}

/// Chat templates by their names.
#[derive(Debug, Default)]
pub(super) struct TemplateSources(Vec<(String, TemplateSource)>);

impl TemplateSources {
    /// Adds a template. Of two with one name, the later counts.
    fn set(&mut self, name: &str, source: TemplateSource) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), source));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, name: &str) -> Option<TemplateSource> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1)
    }

    /// All names, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

/// The bytes of a tokenizer's files, and `tokenizer_config.json` parsed.
#[derive(Debug)]
pub(super) struct TokenizerFiles {
    dir: PathBuf,
    contents: Vec<(PathBuf, Vec<u8>)>,
    config: Map<String, Value>,
}

impl TokenizerFiles {
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        if !dir.is_dir() {
            return Err(Error::Tokenizer { path: dir.to_owned(), problem: "no such folder".to_owned() });
        }
        let mut contents = Vec::new();
        for name in TOKENIZER_FILES.into_iter().filter(|name| !name.contains('*')) {
            if let Some(bytes) = read_if_there(&dir.join(name))? {
                contents.push((PathBuf::from(name), bytes));
            }
        }
        if contents.first().is_none_or(|(name, _)| name != Path::new("tokenizer.json")) {
            let advice = if contents.is_empty() {
                "is this the model's folder?"
            } else {
                "write it with AutoTokenizer.from_pretrained(dir).save_pretrained(dir)"
            };
            let problem = format!("tokenizer.json is missing; {advice}");
            return Err(Error::Tokenizer { path: dir.to_owned(), problem });
        }
        let extra = dir.join(EXTRA_TEMPLATES);
        if extra.is_dir() {
            for entry in fs::read_dir(&extra).map_err(|source| Error::io(&extra, source))? {
                let path = entry.map_err(|source| Error::io(&extra, source))?.path();
                if path.extension().is_some_and(|extension| extension == "jinja")
                    && let (Some(name), Some(bytes)) = (path.file_name(), read_if_there(&path)?)
                {
                    contents.push((Path::new(EXTRA_TEMPLATES).join(name), bytes));
                }
            }
        }
        let mut files = Self { dir: dir.to_owned(), contents, config: Map::new() };
        files.config = files.json("tokenizer_config.json")?.unwrap_or_default();
        Ok(files)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `tokenizer_config.json`. Empty if there is none.
    pub(super) fn config(&self) -> &Map<String, Value> {
        &self.config
    }

    /// Parses a file of the folder as a JSON object. It need not be one of [`TOKENIZER_FILES`].
    /// `None` if there is no such file.
    pub(super) fn json(&self, name: &str) -> Result<Option<Map<String, Value>>, Error> {
        let bytes = match self.bytes(name) {
            Some(bytes) => Some(bytes.to_vec()),
            None => read_if_there(&self.dir.join(name))?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| Error::TokenizerFile { path: self.dir.join(name), source: source.into() })
    }

    pub(super) fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let path = self.dir.join("tokenizer.json");
        let bytes = self.bytes("tokenizer.json").unwrap_or_default();
        tokenizer_expansion::check(bytes)
            .map_err(|source| Error::TokenizerFile { path: path.clone(), source: source.into() })?;
        let mut tokenizer = catch_in_tokenizers(|| Tokenizer::from_bytes(bytes))
            .map_err(|source| Error::TokenizerFile { path: path.clone(), source })?;
        // A tokenizer that was saved after use may have a length limit and padding. Both would
        // change the ids of a text.
        tokenizer.with_truncation(None).map_err(|source| Error::TokenizerFile { path, source })?;
        tokenizer.with_padding(None);
        Ok(tokenizer)
    }

    /// The chat templates, as transformers finds them. The files `chat_template.jinja`, whose name
    /// is `default`, and `additional_chat_templates/*.jinja` come first. Without any of them, the
    /// templates in `tokenizer_config.json` count, and then the one in `chat_template.json`.
    pub(super) fn chat_templates(&self) -> Result<TemplateSources, Error> {
        let mut sources = TemplateSources::default();
        for (path, bytes) in &self.contents {
            let name = match path.parent() {
                Some(folder) if folder == Path::new(EXTRA_TEMPLATES) => path.file_stem().and_then(OsStr::to_str),
                _ if path == Path::new(TEMPLATE_FILE) => Some(DEFAULT_TEMPLATE),
                _ => None,
            };
            if let Some(name) = name {
                let file = path.display().to_string();
                sources.set(name, TemplateSource { text: self.utf8(&file, bytes)?, file });
            }
        }
        if !sources.is_empty() {
            return Ok(sources);
        }
        match self.config.get("chat_template") {
            None | Some(Value::Null) => {
                let legacy = self.json("chat_template.json")?;
                if let Some(text) = legacy.as_ref().and_then(|file| file.get("chat_template")?.as_str()) {
                    sources.set(DEFAULT_TEMPLATE, TemplateSource::new("chat_template.json", text));
                }
            }
            Some(Value::String(text)) => sources.set(DEFAULT_TEMPLATE, TemplateSource::new(CONFIG_FILE, text)),
            Some(Value::Array(named)) => {
                for entry in named {
                    let field = |name| entry.get(name).and_then(Value::as_str);
                    let (Some(name), Some(text)) = (field("name"), field("template")) else {
                        return Err(self.bad_config("an entry of chat_template has no texts `name` and `template`"));
                    };
                    sources.set(name, TemplateSource::new(CONFIG_FILE, text));
                }
            }
            Some(Value::Object(named)) => {
                for (name, text) in named {
                    let Some(text) = text.as_str() else {
                        return Err(self.bad_config(&format!("the chat template {name:?} is no text")));
                    };
                    sources.set(name, TemplateSource::new(CONFIG_FILE, text));
                }
            }
            Some(_) => return Err(self.bad_config("chat_template is neither a text nor a list of named templates")),
        }
        Ok(sources)
    }

    fn bad_config(&self, problem: &str) -> Error {
        Error::Tokenizer { path: self.dir.join(CONFIG_FILE), problem: problem.to_owned() }
    }

    /// Uses the template in a file in place of all others. They are not saved either, because
    /// transformers would prefer the one named `tool_use` for chats with tools.
    pub(super) fn override_chat_template(&mut self, path: &Path) -> Result<(), Error> {
        let bytes = fs::read(path).map_err(|source| Error::io(path, source))?;
        self.contents.retain(|(name, _)| name != Path::new(TEMPLATE_FILE) && !name.starts_with(EXTRA_TEMPLATES));
        self.contents.push((PathBuf::from(TEMPLATE_FILE), bytes));
        Ok(())
    }

    /// Sets the token of a role, such as `eos_token`, in `tokenizer_config.json`.
    pub(super) fn set_token(&mut self, role: &str, token: &str) -> Result<(), Error> {
        self.config.insert(role.to_owned(), Value::from(token));
        let path = self.dir.join("tokenizer_config.json");
        let bytes = serde_json::to_vec_pretty(&self.config)
            .map_err(|source| Error::TokenizerFile { path, source: source.into() })?;
        self.contents.retain(|(name, _)| name != Path::new("tokenizer_config.json"));
        self.contents.push((PathBuf::from("tokenizer_config.json"), bytes));
        Ok(())
    }

    pub(super) fn contents(&self) -> &[(PathBuf, Vec<u8>)] {
        &self.contents
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), Error> {
        fs::create_dir_all(dir).map_err(|source| Error::io(dir, source))?;
        for (name, bytes) in &self.contents {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(|source| Error::io(parent, source))?;
            }
            fs::write(&path, bytes).map_err(|source| Error::io(&path, source))?;
        }
        Ok(())
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.contents.iter().find(|(known, _)| known == Path::new(name)).map(|(_, bytes)| bytes.as_slice())
    }

    fn utf8(&self, name: &str, bytes: &[u8]) -> Result<String, Error> {
        String::from_utf8(bytes.to_vec())
            .map_err(|source| Error::TokenizerFile { path: self.dir.join(name), source: source.into() })
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    // Its bytes are published with the model, so a link must not lead to another file of the user.
    let folder = path.parent().unwrap_or(path);
    let folder = if folder.ends_with(EXTRA_TEMPLATES) { folder.parent().unwrap_or(folder) } else { folder };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match regular_file::contained(path, folder).and_then(|()| regular_file::read(path, MAX_FILE_BYTES)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::io(path, source)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::testing::{message, tokenizer};
    use std::os::unix::fs::symlink;

    #[test]
    fn links_out_of_the_folder_are_refused_by_name() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("secret");
        fs::write(&outside, "not for everybody").unwrap();
        for name in ["merges.txt", "additional_chat_templates/tool.jinja", "special_tokens_map.json"] {
            let dir = tempfile::tempdir().unwrap();
            tokenizer("qwen").save(dir.path()).unwrap();
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&path);
            symlink(&outside, &path).unwrap();
            let found = message(&TokenizerFiles::read(dir.path()).unwrap_err());
            assert!(found.contains(name) && found.contains("outside of its folder"), "{found}");
            fs::remove_file(&path).unwrap();
            fs::write(dir.path().join("inside"), "{}").unwrap();
            symlink(dir.path().join("inside"), &path).unwrap();
            TokenizerFiles::read(dir.path()).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        tokenizer("qwen").save(dir.path()).unwrap();
        symlink("/dev", dir.path().join(EXTRA_TEMPLATES)).unwrap();
        TokenizerFiles::read(dir.path()).unwrap();
    }
}
