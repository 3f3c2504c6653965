//! File formats, recognised by the extension.

/// The known extensions, for error messages.
pub(crate) const KNOWN_FORMATS: &str =
    ".parquet, .jsonl, .ndjson, .json, .csv, .tsv, .txt, each also as .gz or .zst, and .arrow, .feather, .zip";

/// A format that can be read. If two formats are equally common in a folder, the one declared first
/// here is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Parquet,
    /// Arrow's IPC format, as a file or as a stream; Feather version 2 is the same.
    Arrow,
    /// JSON lines or one JSON document. The content decides which.
    Json,
    Csv,
    Tsv,
    Text,
}

impl Format {
    /// The format of a file. `None` if its extension is not known.
    pub(super) fn of(name: &str) -> Option<Self> {
        let file = name.rsplit('/').next()?;
        let (_, suffixes) = file.split_once('.')?;
        let mut suffixes = suffixes.rsplit('.').map(str::to_ascii_lowercase);
        let suffix = suffixes.next()?;
        let suffix = if matches!(suffix.as_str(), "gz" | "zst") { suffixes.next()? } else { suffix };
        match suffix.as_str() {
            "parquet" => Some(Self::Parquet),
            "arrow" | "arrows" | "feather" | "ipc" => Some(Self::Arrow),
            "jsonl" | "ndjson" | "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "txt" => Some(Self::Text),
            _ => None,
        }
    }
}
