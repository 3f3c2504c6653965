use super::*;
use crate::testing::message;
use std::io::{Cursor, Write as _};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn unpacked(bytes: &[u8]) -> Result<TempDir, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.zip");
    fs::write(&path, bytes).unwrap();
    unpack(&path).map_err(|error| message(&error).replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn files_and_folders_are_unpacked_and_removed() {
    let folder = unpacked(&packed(&[("a.txt", b"a"), ("deep/er/b.txt", b"bb")])).unwrap();
    assert_eq!(fs::read(folder.path().join("deep/er/b.txt")).unwrap(), b"bb");
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!path.exists());
}

#[test]
fn names_and_links_cannot_lead_out() {
    for name in ["../a.txt", "a/../../b.txt", "/etc/a.txt", "..\\a.txt"] {
        // The writer would refuse or change such a name.
        let mut bytes = packed(&[(&"x".repeat(name.len()), b"a")]);
        let from = "x".repeat(name.len()).into_bytes();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
            bytes[at..at + from.len()].copy_from_slice(name.as_bytes());
        }
        let error = unpacked(&bytes).unwrap_err();
        assert!(
            error.starts_with("a.zip: holds a file named ") && error.contains("leads out of it; pack it again"),
            "{error}"
        );
    }
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.add_symlink("link.txt", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let error = unpacked(&archive.finish().unwrap().into_inner()).unwrap_err();
    assert_eq!(error, "a.zip: holds the link link.txt; pack the file itself");
}

#[test]
fn a_small_archive_cannot_fill_the_disk() {
    let bytes = packed(&[("a.txt", &vec![b'a'; 16 << 20])]);
    assert!(bytes.len() < 100_000);
    let error = unpacked(&bytes).unwrap_err();
    assert!(
        error.starts_with("a.zip: holds more than 5.") && error.ends_with("unpack it, and name the folder"),
        "{error}"
    );
}

#[test]
fn damaged_archives_say_what_to_do() {
    let whole = packed(&[("a.txt", b"some text that is long enough")]);
    for length in [0, 3, whole.len() / 2, whole.len() - 1] {
        let error = unpacked(&whole[..length]).unwrap_err();
        assert!(error.starts_with("a.zip: cannot be read as zip ("), "{error}");
    }
    let mut changed = whole.clone();
    changed[40] ^= 0x55;
    let error = unpacked(&changed).unwrap_err();
    assert!(error.starts_with("a.zip: its file a.txt is damaged (") && error.ends_with("fetch it again"), "{error}");
}
