//! Limits on what a file from a stranger can do.
//!
//! A dataset, a tokenizer and a chat template may be damaged or hostile. Reading one must end in a
//! result or in an error, without a crash, without a hang, and with memory in proportion to the
//! file. The code that reads ordinary files calls each of these defences once:
//!
//! | module | what it prevents |
//! |---|---|
//! | [`panics`] | a crash: libraries that panic on damaged files |
//! | [`content_size`] | a compressed file whose content fills memory or never ends |
//! | [`archive`] | archives that fill the disk, or hold links and names that lead out of them |
//! | [`arrow`] | buffers and batches that state more than the file can hold |
//! | [`parquet`] | page headers that ask for far more memory than the file has |
//! | [`row_budget`] | rows that repeat a large value without end |
//! | [`regular_file`] | pipes that block, devices that never end, links that lead to other files of the user |
//! | [`template`] | chat templates that run without end, fill memory, or overflow the stack |
//! | [`tokenizer_expansion`] | tokenizers that make a text thousands of times longer |

pub(crate) mod archive;
pub(crate) mod arrow;
pub(crate) mod content_size;
pub(crate) mod panics;
pub(crate) mod parquet;
pub(crate) mod regular_file;
pub(crate) mod row_budget;
pub(crate) mod template;
pub(crate) mod tokenizer_expansion;
