//! The program under test. It is built once, and each run has its own home folder.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The variable with the path of a program to test in place of the one built here, for instance a
/// release build.
const PROGRAM_VARIABLE: &str = "TRAIN_AND_SAVE";
/// A surrounding `cargo test` sets these variables for this package. If they stayed, cargo would
/// rebuild the dependencies of the program.
const CARGO_VARIABLES: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_TARGET_TMPDIR"];
/// These variables would lead the program to files outside of its home, or to a library that its
/// own run path has to find.
const USER_VARIABLES: [&str; 4] = ["HF_", "HUGGING", "XDG_", "LD_LIBRARY_PATH"];

/// The path of the program. The first call builds it.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PROGRAM.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

/// Builds into the target folder and profile of this test, so that nothing is compiled twice.
fn build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE) {
        return Ok(std::path::absolute(path)?);
    }
    let own = std::env::current_exe()?;
    // <target>/<profile>/deps/<test>
    let profile_folder = own.ancestors().nth(2).context("the test is not in a target folder")?;
    let target_folder = profile_folder.parent().context("the test is not in a target folder")?;
    let profile = match profile_folder.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    remove_variables(&mut cargo, &CARGO_VARIABLES);
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.args(["build", "--package", "train_and_save", "--message-format", "json-render-diagnostics"]);
    cargo.args(["--profile", profile, "--target-dir"]).arg(target_folder);
    let output = cargo.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build: {}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout)?;
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_program = message["target"]["name"] == "train_and_save";
        message["executable"].as_str().filter(|_| is_program).map(PathBuf::from)
    });
    executables.next().context("cargo built no program")
}

fn remove_variables(command: &mut Command, prefixes: &[&str]) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}

/// The arguments of a run.
#[derive(Debug, Clone)]
pub struct Training {
    arguments: Vec<OsString>,
    num_threads: usize,
    /// A shell script that has the command to run in `"$@"`.
    script: Option<String>,
}

impl Training {
    /// A run on the CPU, without a progress bar.
    pub fn new(model: &Path, dataset: &Path, output_dir: &Path) -> Self {
        Self::on_the_default_device(model, dataset, output_dir).flags("--device cpu --disable_tqdm")
    }

    /// A run on the device that the program chooses, with a progress bar if there is a terminal.
    pub fn on_the_default_device(model: &Path, dataset: &Path, output_dir: &Path) -> Self {
        Self::bare()
            .flag("model_name", model.display())
            .flag("dataset_name", dataset.display())
            .flag("output_dir", output_dir.display())
    }

    /// A run without any argument.
    pub fn bare() -> Self {
        // One thread, because the tests run at the same time.
        Self { arguments: Vec::new(), num_threads: 1, script: None }
    }

    /// Sets the number of threads that compute. Default: 1.
    #[must_use]
    pub fn threads(mut self, num_threads: usize) -> Self {
        self.num_threads = num_threads;
        self
    }

    /// Limits the address space of the process, so that allocations beyond it fail. Even without a
    /// limit, equal runs then take equal space: by default glibc reserves 64 MB for each thread
    /// that allocates at the same time as another.
    #[must_use]
    pub fn address_space_limit_kib(self, limit: Option<u64>) -> Self {
        let limit = limit.map_or_else(String::new, |limit| format!("ulimit -v {limit} && "));
        self.under(format!("{limit}export MALLOC_ARENA_MAX=1 && exec \"$@\""))
    }

    /// Adds one flag. Its value may have spaces.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl Display) -> Self {
        self.arguments.extend([format!("--{name}").into(), value.to_string().into()]);
        self
    }

    /// Adds arguments, written as in a shell without quotes.
    #[must_use]
    pub fn flags(mut self, text: &str) -> Self {
        self.arguments.extend(text.split_whitespace().map(OsString::from));
        self
    }

    /// Runs the program from a shell script that has the command in `"$@"`.
    #[must_use]
    pub fn under(mut self, script: impl Into<String>) -> Self {
        self.script = Some(script.into());
        self
    }

    /// Runs to the end, successful or not.
    ///
    /// # Errors
    /// When the program cannot be built or started.
    pub fn run(&self) -> Result<Finished> {
        self.start()?.wait()
    }

    /// Starts the program in an empty home folder, which is also the current folder. Nothing is
    /// fetched from the hub.
    ///
    /// # Errors
    /// When the program cannot be built or started.
    pub fn start(&self) -> Result<Running> {
        let home = tempfile::tempdir()?;
        let mut command = match &self.script {
            None => Command::new(program()?),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, "sh"]).arg(program()?);
                shell
            }
        };
        remove_variables(&mut command, &USER_VARIABLES);
        command.args(&self.arguments).current_dir(home.path());
        command.env("HOME", home.path()).env("HF_HOME", home.path().join("hf")).env("HF_HUB_OFFLINE", "1");
        command.env("OMP_NUM_THREADS", self.num_threads.to_string()).env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("cannot run train_and_save")?;
        Ok(Running { child, home })
    }
}

/// A run in progress.
#[derive(Debug)]
pub struct Running {
    child: Child,
    home: TempDir,
}

impl Running {
    /// Closes the pipes that the program writes to, as `| head` does.
    pub fn close_pipes(&mut self) {
        self.child.stdout = None;
        self.child.stderr = None;
    }

    /// Whether the run has ended.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn is_over(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends a signal, given by name: `TERM`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn send(&self, signal: &str) -> Result<()> {
        let command = format!("kill -{signal} {}", self.child.id());
        ensure!(Command::new("sh").args(["-c", &command]).status()?.success(), "{command}");
        Ok(())
    }

    /// The peak of the address space, if the system tells.
    pub fn peak_address_space_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Kills the process at once, so that it cannot clean up.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(mut self) -> Result<Finished> {
        self.child.kill()?;
        self.wait()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When the output of the program is not UTF-8.
    pub fn wait(self) -> Result<Finished> {
        let output = self.child.wait_with_output()?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        Ok(Finished { status: output.status, stdout, stderr, home: self.home })
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    status: ExitStatus,
    /// What the program printed on stdout.
    pub stdout: String,
    /// What the program printed on stderr.
    pub stderr: String,
    home: TempDir,
}

impl Finished {
    /// The exit code. `None` if a signal ended the run.
    pub fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended the run, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Returns itself if the exit code is 0.
    ///
    /// # Errors
    /// When the exit code is not 0, with what the program printed.
    pub fn succeeded(self) -> Result<Self> {
        ensure!(self.status.success(), "{}: {}", self.status, self.stderr);
        Ok(self)
    }

    /// The line of the error, without `error: `. Checks what every failure must satisfy: the exit
    /// code, exactly one such line and nothing after it, no panic and no back-trace, nothing in the
    /// home.
    ///
    /// # Errors
    /// When one of these checks fails.
    pub fn failed_with(&self, exit_code: i32) -> Result<&str> {
        let Self { status, stderr, home, .. } = self;
        ensure!(status.code() == Some(exit_code), "{status}, expected exit code {exit_code}: {stderr}");
        let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
        ensure!(errors == 1, "{errors} lines beginning with `error: `: {stderr}");
        for sign in ["panicked", "backtrace", "Exception raised from", "frame #"] {
            ensure!(!stderr.contains(sign), "`{sign}` in {stderr}");
        }
        ensure!(std::fs::read_dir(home.path())?.next().is_none(), "something was written into the home folder");
        let last = stderr.lines().last().and_then(|line| line.strip_prefix("error: "));
        last.with_context(|| format!("the error is not the last line: {stderr}"))
    }
}
