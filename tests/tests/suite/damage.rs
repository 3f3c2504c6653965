//! When any file of a checkpoint is damaged, a warning names it, and the run resumes from the
//! checkpoint before.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use whole_program_tests::{Case, Dataset, Training, file_names, goldens, sentences};

/// Checkpoints at steps 2 and 4. A resume with `max_steps` 2 has nothing to train and ends at once.
fn training(case: &Case, max_steps: u64) -> Result<Training> {
    let data = Dataset::new(case.path("data"))?.with_texts(&sentences(16, 0), &sentences(3, 0))?;
    let steps = "--save_strategy steps --save_steps 2 --save_total_limit 0 --eval_strategy steps --eval_steps 2";
    let training = case.training(&goldens::model("qwen2"), data.path()).flags(steps).flag("max_steps", max_steps);
    Ok(training.flags("--per_device_train_batch_size 4 --optim_args rank=4"))
}

#[test]
fn each_file_truncated_or_with_a_flipped_byte_is_named_and_the_checkpoint_before_taken() -> Result<()> {
    let case = Case::new()?;
    training(&case, 4)?.run()?.succeeded()?;
    let newest = case.output_dir().join("checkpoint-4");
    let names = file_names(&newest)?;
    ensure!(names.len() >= 11, "{names:?}");
    let resume = training(&case, 2)?.flags("--resume_from_checkpoint true");

    type Harm = fn(&mut Vec<u8>);
    let harms: [(&str, Harm); 2] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("flipped", |bytes| {
            // The last letter or digit before the middle: a flip in the white space of a text may
            // not change its meaning.
            let middle = bytes[..=bytes.len() / 2].iter().rposition(u8::is_ascii_alphanumeric).unwrap_or(0);
            bytes[middle] ^= 1;
        }),
    ];
    let mut finished = Vec::new();
    for name in &names {
        for (kind, harm) in harms {
            let path = newest.join(name);
            let whole = std::fs::read(&path)?;
            let mut harmed = whole.clone();
            harm(&mut harmed);
            ensure!(harmed != whole, "{name}");
            std::fs::write(&path, harmed)?;
            let stderr = resume.run()?.succeeded().with_context(|| format!("{name} {kind}"))?.stderr;
            std::fs::write(&path, whole)?;
            ensure_passed_over(&stderr, name).with_context(|| format!("{name} {kind}: {stderr}"))?;
            finished.push(name);
        }
    }
    ensure!(finished.len() == 2 * names.len());

    // Without damage, the run resumes from the newest checkpoint.
    let stderr = training(&case, 4)?.flags("--resume_from_checkpoint true").run()?.succeeded()?.stderr;
    ensure!(resumed_from(&stderr) == Some("checkpoint-4"), "{stderr}");
    Ok(())
}

fn ensure_passed_over(stderr: &str, name: &str) -> Result<()> {
    let warning = stderr.lines().find(|line| line.starts_with("warning: ")).context("no warning")?;
    ensure!(warning.contains("checkpoint-4 is skipped"), "{warning}");
    // A damaged manifest may have a wrong size or digest, and then another file is named.
    ensure!(warning.contains(name) || name == "manifest.json", "{warning}");
    ensure!(resumed_from(stderr) == Some("checkpoint-2"), "not resumed from the one before");
    Ok(())
}

/// The name of the checkpoint that the run says it resumes from.
fn resumed_from(stderr: &str) -> Option<&str> {
    let line = stderr.lines().find_map(|line| line.strip_prefix("resuming from "))?;
    Path::new(line.split(" at step").next()?).file_name()?.to_str()
}
