//! Measures a checkpoint of model and optimizer: how long training pauses for it, and how fast it
//! is written.

use crate::models;
use crate::table::{TIME, Work, head, line};
use anyhow::{Context, Result, anyhow, ensure};
use checkpoint_callbacks::{DirectoryStore, newest_complete};
use galore_optim::{AdamConfig, AdamW, Optimizer, ParameterGroup, WeightUpdate};
use std::path::Path;
use std::time::{Duration, Instant};
use tch::Kind;
use torch_ext::HostBufferPool;
use trainer_core::CheckpointStore;
use whole_program_tests::measure::Variant;

const OPTIMIZER_FILE: &str = "optimizer.safetensors";

pub fn run(_: &Path) -> Result<()> {
    let mut model = models::qwen2_small(Kind::BFloat16)?;
    let (mut parameters, mut others) = models::parameters(&mut model)?;
    parameters.append(&mut others);
    let group = ParameterGroup::new(parameters, AdamConfig::torch_default());
    let mut optimizer = AdamW::new(vec![group], WeightUpdate::Exact)?;
    model.forward_backward(&models::batch(&model, 1, 16)?, 1.0)?;
    optimizer.step(1e-3)?;

    let folder = tempfile::tempdir()?;
    let mut store = DirectoryStore::open(folder.path())?;
    let memory = HostBufferPool::default();
    let mut save = || -> Result<(Duration, Duration)> {
        let start = Instant::now();
        let files = model.snapshot(&memory)?;
        let state = optimizer.state_file()?;
        let state_bytes = memory.copy(state.tensors())?;
        let state_header = state.into_header();
        let pause = start.elapsed();
        store.save(
            1,
            Box::new(move |folder| {
                for file in files {
                    folder.write_file(Path::new(file.name()), &mut |to| Ok(file.write_to(to)?))?;
                }
                folder.write_file(Path::new(OPTIMIZER_FILE), &mut |to| {
                    to.write_all(&state_header)?;
                    Ok(to.write_all(&state_bytes)?)
                })
            }),
        );
        let saved = store.wait().context("nothing was saved")?;
        saved.outcome.map_err(|error| anyhow!(error))?;
        Ok((pause, start.elapsed() - pause))
    };
    save()?;
    let found = newest_complete(folder.path())?.checkpoint.context("no complete checkpoint")?;
    let state = found.path.join(OPTIMIZER_FILE);
    let expected = folder.path().join("expected");
    optimizer.save(&expected)?;
    ensure!(
        std::fs::read(&state)? == std::fs::read(&expected)?,
        "the optimizer's state is another one in the checkpoint"
    );
    let mut contents = Vec::new();
    for entry in std::fs::read_dir(&found.path)? {
        contents.push(std::fs::read(entry?.path())?);
    }
    let bytes = contents.iter().map(Vec::len).sum::<usize>() as f64;
    head(&format!("a checkpoint of {:.0} MB: AdamW, 16 hidden bits", bytes / 1e6));

    let megabytes = Work { amount: bytes / 1e6, unit: "MB/s" };
    let plain = || -> Result<()> {
        for (index, content) in contents.iter().enumerate() {
            let path = folder.path().join(format!("plain-{index}"));
            std::fs::write(&path, content)?;
            std::fs::File::open(&path)?.sync_all()?;
        }
        Ok(())
    };
    let save = std::cell::RefCell::new(save);
    let pause = std::cell::Cell::new(Duration::ZERO);
    let variants = vec![
        Variant::new("same bytes, written and flushed", plain),
        Variant::timed_by_itself("in the background, with hashes", || {
            let (paused, wrote) = (save.borrow_mut())()?;
            pause.set(paused);
            Ok(wrote)
        }),
        Variant::timed_by_itself("pause of the training", || Ok(pause.get())),
    ];
    line("saving", megabytes, variants, 2 * TIME)
}
