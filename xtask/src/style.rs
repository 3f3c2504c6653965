//! The style rules that rustfmt and clippy do not check, part of `cargo xtask lint`.
//!
//! - A module `foo` is `foo.rs` with `foo/`, never `foo/mod.rs`.
//! - Comments are at most 100 columns wide, except in code blocks, tables and unbreakable words.
//! - Neighbouring `use` items stand in one block, with no blank line between them.
//! - Each crate under `crates/` has a README.md.
//! - No crate under `crates/` has a build script outside of its folder, so that its package is
//!   complete.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

const COMMENT_COLUMNS: usize = 100;

/// Fails with a list of everything in the repository that breaks a rule.
pub fn check() -> Result<()> {
    let root = shell::root();
    let mut problems = Vec::new();
    visit(root, root, &mut problems)?;
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        if folder.join("Cargo.toml").is_file() && !folder.join("README.md").is_file() {
            problems.push(format!("{}: README.md is missing", relative(&folder, root)));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.sort();
    bail!("{} style problems\n{}", problems.len(), problems.join("\n"))
}

/// Checks all files in `folder`, except hidden ones and what builds and runs leave behind.
fn visit(folder: &Path, root: &Path, problems: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if name.starts_with('.') || name == "target" || name == "demo-out" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            visit(&path, root, problems)?;
        } else if [".rs", ".cu", ".cpp", ".h"].iter().any(|end| name.ends_with(end)) || name == "Cargo.toml" {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            problems.extend(problems_of(&relative(&path, root), &text));
        }
    }
    Ok(())
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// What breaks a rule in the file at `path`, each as `path:line: problem`.
fn problems_of(path: &str, text: &str) -> Vec<String> {
    let at = |line: usize, problem: &str| format!("{path}:{line}: {problem}");
    let mut problems = Vec::new();
    if path.ends_with("Cargo.toml") {
        if !path.starts_with("crates/") {
            return problems;
        }
        let lines = text.lines().zip(1..).filter(|(line, _)| builds_outside(line));
        problems.extend(lines.map(|(_, number)| at(number, "the build script is outside of the package")));
        return problems;
    }
    if Path::new(path).file_name().is_some_and(|name| name == "mod.rs") {
        problems.push(format!("{path}: name it after its module's folder, beside the folder"));
    }
    problems.extend(wide_comments(text).into_iter().map(|line| at(line, "comment wider than 100 columns")));
    if path.ends_with(".rs") {
        problems.extend(split_imports(text).into_iter().map(|line| at(line, "blank line between use items")));
    }
    problems
}

fn builds_outside(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, value)| key.trim() == "build" && value.trim().starts_with("\"../"))
}

/// The numbers of the lines with a comment that is too wide, from 1.
fn wide_comments(text: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut wide = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            is_code = false;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim();
        if comment.starts_with("```") {
            is_code = !is_code;
        } else if !is_code && !comment.starts_with('|') && !fits(line, comment) {
            wide.push(number);
        }
    }
    wide
}

/// Whether a comment's line is narrow enough, or has no place where it could be wrapped.
fn fits(line: &str, comment: &str) -> bool {
    let width = line.chars().count();
    if width <= COMMENT_COLUMNS {
        return true;
    }
    // Code and links stay on one line: a space between their marks is no place to wrap.
    let start = width - comment.chars().count();
    let (mut in_code, mut in_link) = (false, false);
    let mut is_item = true;
    for (column, character) in (start..).zip(comment.chars()) {
        match character {
            '`' => in_code = !in_code,
            '[' if !in_code => in_link = true,
            ')' if !in_code => in_link = false,
            ']' if !in_code && !comment.contains("](") => in_link = false,
            // The space after a list's mark is no place to wrap either.
            ' ' if is_item => is_item = false,
            ' ' if !in_code && !in_link && column <= COMMENT_COLUMNS => return false,
            _ => is_item &= matches!(character, '-' | '*' | '.' | '0'..='9'),
        }
    }
    true
}

/// The numbers of the lines, from 1, with a `use` item that a blank line separates from the one
/// before it.
fn split_imports(text: &str) -> Vec<usize> {
    let mut split = Vec::new();
    // The indentation of the `use` item that ended last, if only blank lines came after it.
    let mut last: Option<usize> = None;
    let mut is_open = false;
    let mut indentation = 0;
    let mut has_blank = false;
    for (line, number) in text.lines().zip(1..) {
        let code = line.trim_start();
        if !is_open {
            if code.is_empty() {
                has_blank = true;
                continue;
            }
            if !code.starts_with("use ") {
                last = None;
                continue;
            }
            indentation = line.len() - code.len();
            if has_blank && last == Some(indentation) {
                split.push(number);
            }
        }
        is_open = !code.trim_end().ends_with(';');
        last = Some(indentation);
        has_blank = false;
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_wide_comments() {
        let words = "word ".repeat(20);
        let words = words.trim_end();
        assert_eq!(format!("// {words}").len(), 102);
        let text = format!("//! {words}\n/// {words}\n    // {words}\n// short\nlet a = 1; // {words}\n");
        assert_eq!(wide_comments(&text), [1, 2, 3]);
        // Exactly 100 columns, counted in characters.
        assert_eq!(wide_comments(&format!("// {} ü{}", "w".repeat(48), "ä".repeat(47))), Vec::<usize>::new());
        assert_eq!(wide_comments(&format!("// {} ü{}", "w".repeat(48), "ä".repeat(48))), [1]);
    }

    #[test]
    fn leaves_code_tables_and_unbreakable_words() {
        let words = "word ".repeat(30);
        let text = format!("/// ```text\n/// {words}\n/// ```\n/// | {words} |\n/// {}\n", "w".repeat(120));
        assert_eq!(wide_comments(&text), Vec::<usize>::new());
        // After the code block comments count again; a code block ends with its comment, too.
        assert_eq!(wide_comments(&format!("/// ```\n/// ```\n/// {words}")), [3]);
        assert_eq!(wide_comments(&format!("/// ```\nfn f() {{}}\n/// {words}")), [3]);
        assert_eq!(wide_comments(&format!("// - `{words}`\n// [{words}](there)\n// {}\n", "w".repeat(98))), []);
        assert_eq!(wide_comments(&format!("// a `{words}`")), [1]);
    }

    #[test]
    fn finds_split_imports() {
        let text =
            "use a;\nuse b::{\n    c,\n\n    d,\n};\n\nuse e;\n\nfn f() {\n    use g;\n\n    use h;\n}\n\nuse i;\n";
        assert_eq!(split_imports(text), [8, 13]);
        assert_eq!(split_imports("use a;\nuse b;\n\nmod c;\n\nuse d;\n"), Vec::<usize>::new());
    }

    #[test]
    fn names_the_file_and_the_line() {
        assert_eq!(
            problems_of("crates/a/src/b/mod.rs", "use a;\n\nuse b;\n"),
            [
                "crates/a/src/b/mod.rs: name it after its module's folder, beside the folder",
                "crates/a/src/b/mod.rs:3: blank line between use items"
            ]
        );
        let manifest = "[package]\nbuild = \"../../crates/torch-ext/rpath.rs\"\n";
        assert_eq!(
            problems_of("crates/a/Cargo.toml", manifest),
            ["crates/a/Cargo.toml:2: the build script is outside of the package"]
        );
        assert_eq!(problems_of("crates/a/Cargo.toml", "build = \"build.rs\"\n"), Vec::<String>::new());
        assert_eq!(problems_of("bins/a/Cargo.toml", manifest), Vec::<String>::new());
    }
}
