//! A disk that fails on demand.

use crate::disk::{Disk, RealDisk};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What happens from the chosen operation on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails, and the following operations succeed.
    Once,
    /// It and all following operations fail. Nothing can be cleaned up, as if the machine had died.
    FromThenOn,
    /// No file can be written any more, but names can be changed and removed: a full disk. Half of
    /// the first write gets through.
    DiskFull,
}

/// A disk that counts its operations and fails at one of them.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    fault: Fault,
    /// The operation that fails, counted from 0.
    at: usize,
    count: AtomicUsize,
}

impl FaultyDisk {
    pub fn new(fault: Fault, at: usize) -> Arc<Self> {
        Arc::new(Self { fault, at, count: AtomicUsize::new(0) })
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Counts an operation. An error if it is to fail.
    fn pass(&self, fills_the_disk: bool) -> io::Result<()> {
        let index = self.count.fetch_add(1, Ordering::SeqCst);
        let fails = match self.fault {
            Fault::Once => index == self.at,
            Fault::FromThenOn => index >= self.at,
            Fault::DiskFull => index >= self.at && fills_the_disk,
        };
        if fails { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

pub(crate) fn healthy() -> Arc<FaultyDisk> {
    FaultyDisk::new(Fault::Once, usize::MAX)
}

/// Does the operations that do not fail.
const REAL: RealDisk = RealDisk;

impl Disk for FaultyDisk {
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.pass(true)?;
        REAL.create_folder(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<File> {
        self.pass(true)?;
        REAL.create_file(path)
    }

    /// Every write is short. A write that fails has written half of its bytes.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().div_ceil(2)];
        match self.pass(true) {
            Ok(()) => REAL.write(file, part),
            Err(error) => {
                file.write_all(part)?;
                Err(error)
            }
        }
    }

    /// Counts the flush but skips it: no machine loses power in a test, and a flush takes
    /// milliseconds.
    fn sync(&self, _file: &File) -> io::Result<()> {
        self.pass(true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(false)?;
        REAL.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.pass(false)?;
        REAL.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.pass(false)?;
        REAL.remove_folder(path)
    }
}
