//! File formats, told by the extension.

/// For error messages.
pub(crate) const KNOWN_FORMATS: &str = ".parquet, .jsonl, .ndjson, .json, .csv, .tsv, .txt, each also as .gz or .zst";

/// A format that can be read. Of two that are equally common in a folder the one declared first is
/// read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Parquet,
    /// Lines or a whole document; the content tells.
    Json,
    Csv,
    Tsv,
    Text,
}

impl Format {
    /// The format of a file, `None` if its name does not tell.
    pub(super) fn of(name: &str) -> Option<Self> {
        let file = name.rsplit('/').next()?;
        let (_, suffixes) = file.split_once('.')?;
        let mut suffixes = suffixes.rsplit('.').map(str::to_ascii_lowercase);
        let suffix = suffixes.next()?;
        let suffix = if matches!(suffix.as_str(), "gz" | "zst") { suffixes.next()? } else { suffix };
        match suffix.as_str() {
            "parquet" => Some(Self::Parquet),
            "jsonl" | "ndjson" | "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }
}
