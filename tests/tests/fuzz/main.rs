//! Damaged files. Whatever they contain, reading them soon ends in a result or an error and takes
//! memory in proportion to their size.
//!
//! Each target takes valid files, changes one of them in a few places that proptest chooses, and
//! reads them as a run does. A panic, or a case that takes too long or too much memory, fails the
//! test, and proptest then searches for the smallest change that fails. The short version is part
//! of the test suite; `cargo xtask fuzz --minutes N [target]` is the long one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is a test")]

mod mutate;
mod resident;
mod targets;

use mutate::{Content, Mutation};
use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The variable with the duration of a long run. `cargo xtask fuzz` sets it.
const MINUTES: &str = "FUZZ_MINUTES";
/// The time for each of the two seeds in the short version.
const SHORT: Duration = Duration::from_millis(800);
const LONGEST_CASE: Duration = Duration::from_secs(10);
/// Memory that reading may take whatever the size of the files: buffers, the state of a thread.
const FREE_BYTES: usize = 8 << 20;
/// The same for resident memory, which includes libtorch's tables, stacks, and pages that the
/// allocators keep.
const FREE_RESIDENT_BYTES: usize = 64 << 20;
/// Memory that all cases of a seed together may leave behind, however many there are. The long
/// version finds a leak of some 40 bytes per case. The regex library keeps less than this: eight
/// caches for each expression of the tokenizers library.
const KEPT_BYTES: usize = 4 << 20;
/// After this many cases, everything that is created only once exists.
const WARM_UP: u32 = 64;

type Read = Box<dyn Fn(&Path, &Path)>;

/// Memory is measured for the whole process, so one test runs at a time.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file of a case.
struct Seed {
    name: &'static str,
    bytes: Vec<u8>,
    content: Content,
}

/// A reader to test, and the files to test it with.
struct Target {
    /// The files that are changed, one in each case.
    seeds: Vec<Seed>,
    /// The files beside them that are not changed.
    beside: Vec<(&'static str, Vec<u8>)>,
    /// Bytes of memory that each byte of the files may take.
    bytes_per_byte: usize,
    /// Reads the folder. The second path is that of the changed file.
    read: Read,
}

impl Target {
    fn fuzz(&self, name: &str) {
        let _turn = one_at_a_time();
        // In memory if the system has such a folder, because a case is a few writes and little
        // work.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let dir = folder.path();
        for (name, bytes) in &self.beside {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        for seed in &self.seeds {
            std::fs::write(dir.join(seed.name), &seed.bytes).unwrap();
        }
        let minutes: Option<f64> = std::env::var(MINUTES).ok().map(|minutes| minutes.parse().unwrap());
        let random = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let time = minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 30.0));
        for seed in [1, random] {
            let report = RefCell::new(Report::default());
            let started = Instant::now();
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            let config = ProptestConfig { cases: WARM_UP, failure_persistence: None, ..ProptestConfig::default() };
            let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
            let strategy = (any::<prop::sample::Index>(), vec(any::<Mutation>(), 0..5));
            while started.elapsed() < time {
                report.borrow_mut().now = usize::MAX;
                let outcome = runner.run(&strategy, |(which, changes)| {
                    self.case(dir, which.get(&self.seeds), &changes, &mut report.borrow_mut())
                });
                // A runner never resets its count of cases.
                let (config, rng) = (runner.config().clone(), runner.new_rng());
                runner = TestRunner::new_with_rng(config, rng);
                if let Err(failure) = outcome {
                    panic!("{name}, seed {seed}: {failure}");
                }
            }
            let report = report.into_inner();
            println!("{name}, seed {seed}: {report}");
            assert!(report.kept() <= KEPT_BYTES, "{name}, seed {seed}: each reading leaves something in memory");
        }
    }

    fn case(&self, dir: &Path, seed: &Seed, changes: &[Mutation], report: &mut Report) -> Result<(), TestCaseError> {
        let path = dir.join(seed.name);
        let bytes = mutate::mutated(&seed.bytes, seed.content, changes);
        std::fs::write(&path, &bytes).unwrap();
        let files =
            self.seeds.iter().map(|seed| seed.bytes.len()).chain(self.beside.iter().map(|(_, bytes)| bytes.len()));
        let size = files.sum::<usize>() + bytes.len();

        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let resident_before = resident::reset_peak();
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.read)(dir, &path)));
        let time = started.elapsed();
        let memory = MEMORY.peak_usage().saturating_sub(before);
        let resident = resident::peak().saturating_sub(resident_before);
        let allowed = self.bytes_per_byte * size;

        let problem = match outcome {
            Err(_) => Some("a panic".to_owned()),
            Ok(()) if time > LONGEST_CASE => Some(format!("takes {time:?}")),
            Ok(()) if memory > FREE_BYTES + allowed => Some(format!("{memory} bytes for {size}")),
            Ok(()) if resident > FREE_RESIDENT_BYTES + allowed => Some(format!("{resident} resident bytes for {size}")),
            Ok(()) => None,
        };
        if let Some(problem) = problem {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-failure-{}", seed.name));
            std::fs::write(&kept, &bytes).unwrap();
            return Err(TestCaseError::fail(format!("{problem}, reading {}", kept.display())));
        }
        std::fs::write(&path, &seed.bytes).unwrap();
        report.num_cases += 1;
        report.longest = report.longest.max(time);
        report.most_memory = report.most_memory.max(memory);
        report.most_resident = report.most_resident.max(resident);
        report.now = report.now.min(MEMORY.current_usage());
        if report.num_cases <= WARM_UP as usize {
            report.at_first = report.now;
        }
        Ok(())
    }
}

/// The time and memory that the cases took.
#[derive(Default)]
struct Report {
    num_cases: usize,
    longest: Duration,
    most_memory: usize,
    most_resident: usize,
    /// The fewest bytes in use after a case of the warm-up. The minimum, because threads that are
    /// about to end still hold memory for a moment.
    at_first: usize,
    /// The same for the last cases.
    now: usize,
}

impl Report {
    /// Bytes that the cases left behind.
    fn kept(&self) -> usize {
        self.now.saturating_sub(self.at_first)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { num_cases, longest, most_memory, most_resident, .. } = self;
        write!(
            f,
            "{num_cases} cases, the longest {longest:?}, {} KiB of memory at most, {} KiB more resident, {} KiB kept",
            most_memory / 1024,
            most_resident / 1024,
            self.kept() / 1024
        )
    }
}
