//! Kills runs again and again at random instants, until they reach their end anyway.
//!
//! After each kill the output folder must be usable as it is, and the next run resumes from it. The
//! result must equal that of an undisturbed run bit for bit.

use crate::{Case, Dataset, Results, Running, TIME_KEYS, Training, file_names, goldens, sentences};
use anyhow::{Context, Result, bail, ensure};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A run of 24 steps with a save after every second one.
const FLAGS: &str = "--max_steps 24 --per_device_train_batch_size 4 --max_length 24 --learning_rate 1e-3 --logging_steps 1 \
    --eval_strategy steps --eval_steps 2 --save_strategy steps --save_steps 2 --save_total_limit 1 \
    --optim_args rank=4,update_proj_gap=5,scale=1";
const SIGKILL: i32 = 9;

/// What a series of kills has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tortured {
    /// Number of SIGKILLs sent.
    pub kills: usize,
    /// Kills that left a half-written checkpoint.
    pub while_saving: usize,
    /// Kills that left a partly published final model.
    pub while_publishing: usize,
    /// Kills before the first checkpoint.
    pub before_any_checkpoint: usize,
    /// Runs that reached their end.
    pub runs: usize,
}

impl fmt::Display for Tortured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, while_saving, while_publishing, before_any_checkpoint, runs } = self;
        write!(
            formatter,
            "{kills} kills ({while_saving} in a save, {while_publishing} while the model was put into place, \
             {before_any_checkpoint} before the first checkpoint), {runs} runs with the undisturbed run's result"
        )
    }
}

/// Kills runs `kills` times, at instants that depend on `seed`, and calls `progress` after each
/// run.
///
/// # Errors
/// When something is wrong after a kill, or the result differs.
pub fn torture(kills: usize, seed: u64, mut progress: impl FnMut(&Tortured)) -> Result<Tortured> {
    let case = Case::new()?;
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(30, 0), &sentences(6, 0))?;
    let training = |out: &Path| Training::new(&goldens::model("qwen2"), data.path(), out).flags(FLAGS);
    let whole = case.path("whole");
    let started = Instant::now();
    training(&whole).run()?.succeeded()?;
    let mut expected = Expected { duration: started.elapsed(), earlier: model_files(&goldens::model("qwen2"))?, whole };

    let mut random = Random(seed);
    let mut tortured = Tortured::default();
    while tortured.kills < kills {
        let out = case.path(&format!("run-{}", tortured.runs));
        // The folder already has a model, as when a run is started in the folder of an earlier one.
        std::fs::create_dir(&out)?;
        for (name, bytes) in &expected.earlier {
            std::fs::write(out.join(name), bytes)?;
        }
        loop {
            let resume = has_checkpoint(&out)?;
            let flags = if resume { "--resume_from_checkpoint true" } else { "" };
            let started = Instant::now();
            let running = training(&out).flags(flags).start()?;
            let is_spared = tortured.kills >= kills;
            let finished = if is_spared { running.wait()? } else { kill(running, &out, &expected, &mut random)? };
            ensure!(!finished.stderr.contains("skipped"), "a checkpoint is damaged: {}", finished.stderr);
            if finished.signal() != Some(SIGKILL) {
                finished.succeeded()?;
                // If the machine was busy during the first run, the measured duration is too long,
                // and instants after the end kill nothing. A resumed run says nothing about the
                // duration of a whole one: with its duration, all kills would come before the first
                // step.
                if !resume {
                    expected.duration = expected.duration.min(started.elapsed());
                }
                break;
            }
            tortured.kills += 1;
            expected.check_left(&out, &mut tortured).with_context(|| format!("after kill {}", tortured.kills))?;
        }
        expected.check_result(&out).with_context(|| format!("after {} kills", tortured.kills))?;
        std::fs::remove_dir_all(&out)?;
        tortured.runs += 1;
        progress(&tortured);
    }
    Ok(tortured)
}

/// Lets a run go on for a while: in half of the cases until it writes something, otherwise for a
/// random time.
fn kill(mut running: Running, out: &Path, expected: &Expected, random: &mut Random) -> Result<crate::Finished> {
    if random.below(2) == 0 {
        let (end, num_writes) = (Instant::now() + 2 * expected.duration, 1 + random.below(8));
        let mut seen = std::collections::BTreeSet::new();
        while (seen.len() as u64) < num_writes && Instant::now() < end && !running.is_over()? {
            seen.extend(file_names(out)?.into_iter().filter(|name| name.ends_with(".partial")));
        }
        // 1 µs to 4 ms: usually in the middle of the write, sometimes after it.
        std::thread::sleep(Duration::from_micros(1 << random.below(13)));
    } else {
        let most = u64::try_from(expected.duration.as_micros())?;
        std::thread::sleep(Duration::from_micros(random.below(most)));
    }
    running.kill()
}

/// What an undisturbed run leaves, and what was in the folder before.
struct Expected {
    duration: Duration,
    earlier: BTreeMap<String, Vec<u8>>,
    whole: PathBuf,
}

impl Expected {
    /// Checks that the folder now has a complete model, and that its checkpoints have all their
    /// files.
    fn check_left(&self, out: &Path, tortured: &mut Tortured) -> Result<()> {
        let names = file_names(out)?;
        tortured.while_saving += usize::from(names.iter().any(|name| name.starts_with(".checkpoint-")));
        tortured.while_publishing += usize::from(names.iter().any(|name| {
            name.ends_with(".partial") && !name.starts_with(".checkpoint-") && name != "metrics.jsonl.partial"
        }));
        tortured.before_any_checkpoint += usize::from(!has_checkpoint(out)?);
        let new = model_files(&self.whole)?;
        for (name, earlier) in &self.earlier {
            let found = std::fs::read(out.join(name)).with_context(|| name.clone())?;
            ensure!(
                found == *earlier || Some(&found) == new.get(name),
                "{name} is neither the old one nor the new one"
            );
        }
        SafeTensors::deserialize(&std::fs::read(out.join("model.safetensors"))?)?;
        for name in names.iter().filter(|name| name.starts_with("checkpoint-")) {
            let checkpoint = Results::in_folder(out.join(name));
            let manifest = checkpoint.json("manifest.json")?;
            for file in manifest["files"].as_array().context("no files")? {
                let path = file["path"].as_str().context("no path")?;
                let size = checkpoint.bytes(path)?.len() as u64;
                ensure!(file["size"].as_u64() == Some(size), "{name}/{path} has {size} bytes");
            }
        }
        Ok(())
    }

    /// Checks that the run left the same files as the undisturbed one, with the same contents
    /// except for times and paths.
    fn check_result(&self, out: &Path) -> Result<()> {
        let (found, whole) = (contents(out)?, contents(&self.whole)?);
        ensure!(found.keys().eq(whole.keys()), "other files are left: {:?}", found.keys());
        for (path, expected) in &whole {
            match (found.get(path), expected) {
                (Some(found), expected) if found == expected => {}
                (Some(Content::Json(found)), Content::Json(expected)) => {
                    bail!("{path} differs: {found}, not {expected}")
                }
                _ => bail!("{path} differs"),
            }
        }
        Ok(())
    }
}

/// The part of a file that is compared.
#[derive(Debug, PartialEq)]
enum Content {
    Bytes(Vec<u8>),
    Json(Value),
}

/// Keys of times and of resources used, in addition to those of a log.
const COSTS: [&str; 7] = [
    "train_tokens_per_second",
    "step_time_ms_median",
    "step_time_ms_max",
    "first_step_ms",
    "subspace_refresh_ms_total",
    "peak_memory_bytes",
    "num_steps_timed",
];

/// All files in the folder and its folders, by path.
fn contents(folder: &Path) -> Result<BTreeMap<String, Content>> {
    let mut all = BTreeMap::new();
    for name in file_names(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            all.extend(contents(&path)?.into_iter().map(|(inner, content)| (format!("{name}/{inner}"), content)));
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| name.clone())?;
        let content = comparable(&name, bytes).with_context(|| path.display().to_string())?;
        all.insert(name, content);
    }
    Ok(all)
}

/// The bytes of a file, without times and the path of the folder in the few files that have them.
fn comparable(name: &str, bytes: Vec<u8>) -> Result<Content> {
    let mut value = match name {
        "metrics.jsonl" => {
            Value::Array(serde_json::Deserializer::from_slice(&bytes).into_iter().collect::<serde_json::Result<_>>()?)
        }
        "trainer_state.json" | "training_args.json" | "manifest.json" | "train_results.json" | "eval_results.json"
        | "all_results.json" => serde_json::from_slice(&bytes)?,
        _ => return Ok(Content::Bytes(bytes)),
    };
    settle(&mut value);
    Ok(Content::Json(value))
}

/// Removes what differs from run to run.
fn settle(value: &mut Value) {
    match value {
        Value::Array(items) => {
            // The summary. A run that was killed after its last step has none, because it has no
            // times to sum up after the resume. The mean loss in it is that of train_results.json.
            items.retain(|item| item.get("train_runtime").is_none());
            items.iter_mut().for_each(settle);
        }
        Value::Object(fields) => {
            // An entry of a manifest for a file with times: its size and checksum differ too.
            if fields.get("path").is_some_and(|path| path == "trainer_state.json" || path == "training_args.json") {
                fields.retain(|key, _| key == "path");
            }
            let differs = |key: &str| TIME_KEYS.contains(&key) || COSTS.contains(&key) || key == "output_dir";
            fields.retain(|key, _| !differs(key));
            if let Some(Value::String(path)) = fields.get_mut("best_model_checkpoint") {
                *path = path.rsplit('/').next().unwrap_or_default().to_owned();
            }
            fields.values_mut().for_each(settle);
        }
        _ => {}
    }
}

/// Whether there is a checkpoint, even one whose replacement was interrupted.
fn has_checkpoint(out: &Path) -> Result<bool> {
    let is_one = |name: &String| name.starts_with("checkpoint-") || name.ends_with(".replaced");
    Ok(file_names(out)?.iter().any(is_one))
}

/// The model and tokenizer files of a folder.
fn model_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let there = names.into_iter().filter(|name| folder.join(name).is_file());
    there.map(|name| Ok((name.to_owned(), std::fs::read(folder.join(name))?))).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// A random number below `end`, which is above 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }
}
