//! The program under test: built once, run with a home of its own.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Takes the place of the program built here, for instance a release build.
const PROGRAM_VARIABLE: &str = "TRAIN_AND_SAVE";
/// Set by a surrounding `cargo test` for this package; left in place they would make cargo build
/// the program's dependencies anew.
const CARGO_VARIABLES: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_TARGET_TMPDIR"];
/// Would lead the program past its home, or to a library that its own run path has to find.
const USER_VARIABLES: [&str; 4] = ["HF_", "HUGGING", "XDG_", "LD_LIBRARY_PATH"];

/// The program's path. The first call builds it.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PROGRAM.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => bail!("{error}"),
    }
}

/// Builds into the target folder and profile that this test itself was built in, so that nothing is
/// compiled twice.
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

/// Arguments for a run.
#[derive(Debug, Clone)]
pub struct Training {
    arguments: Vec<OsString>,
    num_threads: usize,
    /// A shell's, with the command to run in `"$@"`.
    script: Option<String>,
}

impl Training {
    /// On the CPU, without a progress bar.
    pub fn new(model: &Path, dataset: &Path, output_dir: &Path) -> Self {
        Self::on_the_default_device(model, dataset, output_dir).flags("--device cpu --disable_tqdm")
    }

    /// On the device that the program chooses, with a progress bar where there is a terminal.
    pub fn on_the_default_device(model: &Path, dataset: &Path, output_dir: &Path) -> Self {
        Self::bare()
            .flag("model_name", model.display())
            .flag("dataset_name", dataset.display())
            .flag("output_dir", output_dir.display())
    }

    /// Without any argument.
    pub fn bare() -> Self {
        // The tests run side by side.
        Self { arguments: Vec::new(), num_threads: 1, script: None }
    }

    /// Computes on this many threads in place of one.
    #[must_use]
    pub fn threads(mut self, num_threads: usize) -> Self {
        self.num_threads = num_threads;
        self
    }

    /// Gives the process no more address space than this, so that allocations beyond it fail. Also
    /// without a limit, equal runs take equal space: glibc would reserve 64 MB for each thread that
    /// happens to find another allocating.
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

    /// Runs it from a shell script, which has the command in `"$@"`.
    #[must_use]
    pub fn under(mut self, script: impl Into<String>) -> Self {
        self.script = Some(script.into());
        self
    }

    /// Runs to the end, whatever that is.
    ///
    /// # Errors
    /// When the program cannot be built or started.
    pub fn run(&self) -> Result<Finished> {
        self.start()?.wait()
    }

    /// Starts, in an empty home that is also the current folder, with nothing to be fetched from
    /// the hub.
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

/// A run under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    home: TempDir,
}

impl Running {
    /// Closes the pipes it writes to, as `| head` does.
    pub fn close_pipes(&mut self) {
        self.child.stdout = None;
        self.child.stderr = None;
    }

    /// Whether it has come to its end.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn is_over(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends it a signal, by name: `TERM`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn send(&self, signal: &str) -> Result<()> {
        let command = format!("kill -{signal} {}", self.child.id());
        ensure!(Command::new("sh").args(["-c", &command]).status()?.success(), "{command}");
        Ok(())
    }

    /// The most address space it has had, where the system says.
    pub fn peak_address_space_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Kills it at once: it gets no chance to clean up.
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
    /// When what it printed is not UTF-8.
    pub fn wait(self) -> Result<Finished> {
        let output = self.child.wait_with_output()?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        Ok(Finished { status: output.status, stdout, stderr, home: self.home })
    }
}

/// A run at its end.
#[derive(Debug)]
pub struct Finished {
    status: ExitStatus,
    /// What it printed on stdout.
    pub stdout: String,
    /// What it printed on stderr.
    pub stderr: String,
    home: TempDir,
}

impl Finished {
    /// The exit code; none after a signal.
    pub fn exit_code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Itself, if all went well.
    ///
    /// # Errors
    /// With what it printed, if not.
    pub fn succeeded(self) -> Result<Self> {
        ensure!(self.status.success(), "{}: {}", self.status, self.stderr);
        Ok(self)
    }

    /// The error's line, without `error: `. What is to hold of every failure is checked: the exit
    /// code, one such line, at the end, no panic and no back-trace, nothing in the home.
    ///
    /// # Errors
    /// When something of that does not hold.
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
