//! `cargo xtask soak`: watches the memory and the open files of one long run of a tiny model that
//! logs, evaluates and saves all the time. Linux only, because it reads `/proc`.

use crate::{setup, shell};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "target/soak";
/// An epoch has 10 steps. Each evaluation that is the best so far causes another save.
const FLAGS: &str = "--model_name tests/goldens/models/qwen2 --dataset_name tests/goldens/words --output_dir target/soak/out \
    --device cpu --disable_tqdm --max_steps 1000000000 --learning_rate 1e-4 --lr_scheduler_type constant \
    --optim_args rank=8,update_proj_gap=50,scale=0.5 --logging_steps 10 --eval_strategy steps --eval_steps 7 \
    --save_strategy steps --save_steps 7 --save_total_limit 2 --load_best_model_at_end";
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);
/// The part of the time in which allocators, caches and the first saves settle.
const WARM_UP: f64 = 0.2;
/// How much memory may grow after the warm-up, in addition to the log history: allocator noise.
const FREE_GROWTH_BYTES: f64 = 4e6;
/// How much memory may grow with each log entry. Like Hugging Face's, `log_history` keeps every log
/// and every evaluation, and a save writes all of it as one text.
const BYTES_PER_LOG_ENTRY: f64 = 3000.0;
/// How many more files may be open at one time, because a checkpoint is being written.
const FREE_HANDLES: usize = 8;

#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    resident_bytes: f64,
    handles: usize,
    log_entries: usize,
}

/// Takes `--minutes <number>`.
pub fn run(arguments: &[&str]) -> Result<()> {
    let ["--minutes", minutes] = arguments else { bail!("soak takes --minutes <number>") };
    let number: f64 = minutes.parse().with_context(|| format!("--minutes {minutes}"))?;
    ensure!(number >= 1.0 && number.is_finite(), "--minutes {minutes}: must be 1 or more");
    setup::ensure()?;
    shell::run("build", shell::cargo().args(["build", "--locked", "-p", "train_and_save"]))?;
    setup::remove(&shell::root().join(FOLDER))?;
    std::fs::create_dir_all(shell::root().join(FOLDER))?;
    let samples = shell::step("soak", || watch(Duration::from_secs_f64(number * 60.0)))?;
    judge(&samples)
}

/// Takes samples until the time is over, then ends the run with a signal, as a user would.
fn watch(time: Duration) -> Result<Vec<Sample>> {
    let log = std::fs::File::create(shell::root().join(FOLDER).join("stderr"))?;
    let mut training = shell::command(shell::dev_folder().join("train_and_save"));
    let mut child = training.args(FLAGS.split_whitespace()).stdin(Stdio::null()).stderr(log).spawn()?;
    let samples = sample(&mut child, time);
    let terminated = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    let status = child.wait()?;
    ensure!(terminated?.success(), "kill failed");
    let samples = samples?;
    ensure!(status.code() == Some(143), "the run ended with {status}; see {FOLDER}/stderr");
    Ok(samples)
}

fn sample(child: &mut Child, time: Duration) -> Result<Vec<Sample>> {
    let started = Instant::now();
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let mut samples = Vec::new();
    while started.elapsed() < time {
        std::thread::sleep(BETWEEN_SAMPLES);
        if let Some(status) = child.try_wait()? {
            bail!("the run ended with {status} before its time; see {FOLDER}/stderr");
        }
        let metrics = shell::root().join(FOLDER).join("out/metrics.jsonl");
        let log_entries = std::fs::read(metrics).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count();
        let (resident_bytes, handles) = (resident_bytes(&process)?, std::fs::read_dir(process.join("fd"))?.count());
        samples.push(Sample { seconds: started.elapsed().as_secs_f64(), resident_bytes, handles, log_entries });
    }
    Ok(samples)
}

fn resident_bytes(process: &Path) -> Result<f64> {
    let status = std::fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: f64 = line.split_whitespace().next().context("no VmRSS")?.parse()?;
    Ok(kibibytes * 1024.0)
}

/// Prints what the run used; fails if memory or open files grew by more than allowed.
fn judge(samples: &[Sample]) -> Result<()> {
    let settled = &samples[(samples.len() as f64 * WARM_UP) as usize..];
    let (first, last) = (settled.first().context("no sample")?, settled.last().context("no sample")?);
    // Compares means over a tenth at each end, because a single sample may fall into a save.
    let tenth = (settled.len() / 10).max(1);
    let mean = |part: &[Sample]| part.iter().map(|sample| sample.resident_bytes).sum::<f64>() / part.len() as f64;
    let growth = mean(&settled[settled.len() - tenth..]) - mean(&settled[..tenth]);
    let entries = last.log_entries - first.log_entries;
    let bound = FREE_GROWTH_BYTES + BYTES_PER_LOG_ENTRY * entries as f64;
    let fewest = |part: &[Sample]| part.iter().map(|sample| sample.handles).min().unwrap_or(0);
    let most = settled.iter().map(|sample| sample.handles).max().unwrap_or(0);
    let (fewest_before, fewest_after) = (fewest(&settled[..tenth]), fewest(&settled[settled.len() - tenth..]));
    println!(
        "after a warm-up of {:.0} s, in {:.0} s: {:.1} MB resident at first, {:+.2} MB since ({:+.2} MB an hour), of {:.2} MB allowed; \
         {entries} entries of log_history; {fewest_before} open files at first, {fewest_after} at the end, {most} at most",
        first.seconds,
        last.seconds - first.seconds,
        first.resident_bytes / 1e6,
        growth / 1e6,
        slope(settled) * 3600.0 / 1e6,
        bound / 1e6,
    );
    ensure!(entries > 0, "nothing was logged; see {FOLDER}/stderr");
    ensure!(growth <= bound, "memory grows");
    ensure!(fewest_after <= fewest_before && most <= fewest_before + FREE_HANDLES, "open files grow");
    println!("memory and open files are flat");
    Ok(())
}

/// Growth of the memory in bytes a second, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(|sample| sample.seconds).sum::<f64>() / count;
    let mean_y = samples.iter().map(|sample| sample.resident_bytes).sum::<f64>() / count;
    let products = samples.iter().map(|sample| (sample.seconds - mean_x) * (sample.resident_bytes - mean_y));
    let squares = samples.iter().map(|sample| (sample.seconds - mean_x).powi(2));
    products.sum::<f64>() / squares.sum::<f64>().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(bytes_per_entry: f64, handles: impl Fn(usize) -> usize) -> Vec<Sample> {
        let sample = |index: usize| Sample {
            seconds: index as f64,
            resident_bytes: 2e8 + 1e4 * index as f64 * bytes_per_entry,
            handles: handles(index),
            log_entries: index * 10,
        };
        (0..1000).map(sample).collect()
    }

    #[test]
    fn growth_is_found_and_a_log_is_none() {
        judge(&run_of(0.5, |index| 20 + index % 3)).unwrap();
        assert!(judge(&run_of(9.0, |_| 20)).unwrap_err().to_string().contains("memory"));
        assert!(judge(&run_of(0.5, |index| 20 + index / 100)).unwrap_err().to_string().contains("open files"));
        assert!((slope(&run_of(1.0, |_| 20)) - 1e4).abs() < 1e-3);
    }
}
