//! The run as a library: rows, callbacks and optimizers of the caller.

use anyhow::{Context, Result, ensure};
use galore_optim::{AdamConfig, AdamW, Optimizer, Parameter, ParameterGroup, WeightUpdate};
use sft_trainer::callbacks::{
    BestModelCheckpointCallback, BoxError, Callback, CallbackContext, EventResult, LogEntry, Requests,
};
use sft_trainer::config::ResumeFrom;
use sft_trainer::{Error, SftConfig, SftTrainer};
use std::path::Path;
use whole_program_tests::{Case, Results, Training, goldens, sentences};

/// Stops the run at its second evaluation.
#[derive(Default)]
struct StopAtSecond {
    num_evaluations: usize,
}

impl Callback for StopAtSecond {
    fn on_evaluate(&mut self, _: &CallbackContext<'_>, _: &LogEntry, requests: &mut Requests) -> EventResult {
        self.num_evaluations += 1;
        if self.num_evaluations == 2 {
            requests.request_stop();
        }
        Ok(())
    }
}

fn config(output_dir: &Path) -> SftConfig {
    let mut config = SftConfig::new(goldens::model("qwen2").display().to_string(), output_dir);
    config.model.use_cpu = true;
    config.optimizer.optim_args = Some("rank=8".to_owned());
    config.training.num_train_epochs = 5.0;
    config.training.learning_rate = 1e-3;
    config
}

#[test]
fn own_rows_and_an_own_callback_that_stops() -> Result<()> {
    let case = Case::new()?;
    let trained = SftTrainer::builder(config(&case.output_dir()))
        .rows(sentences(24, 0), Some(sentences(5, 0)))
        .load()?
        .callback(BestModelCheckpointCallback)
        .callback(StopAtSecond::default())
        .train()?;
    ensure!(trained.output().state.global_step == 6, "{} steps", trained.output().state.global_step);
    trained.publish()?;
    drop(trained);

    // The published model is the best checkpoint, and loads as any other.
    let published = Results::in_folder(case.output_dir());
    let state = published.json("trainer_state.json")?;
    let best = state["best_model_checkpoint"].as_str().context("no best checkpoint")?;
    ensure!(published.bytes("model.safetensors")? == Results::in_folder(best).bytes("model.safetensors")?);
    Ok(())
}

/// The rows of a program and of a file train the same model, bit for bit.
#[test]
fn own_rows_are_those_of_a_file() -> Result<()> {
    let (case, rows) = (Case::new()?, sentences(24, 0));
    let mut own = config(&case.path("own"));
    own.training.num_train_epochs = 1.0;
    let trained = SftTrainer::builder(own).rows(rows.clone(), Some(sentences(5, 0))).load()?;
    trained.callback(BestModelCheckpointCallback).train()?.publish()?;

    let data = whole_program_tests::Dataset::new(case.path("data"))?.with_texts(&rows, &sentences(5, 0))?;
    let training = Training::new(&goldens::model("qwen2"), data.path(), &case.path("file"));
    let training = training.flags("--num_train_epochs 1 --learning_rate 1e-3").flag("optim_args", "rank=8");
    training.run()?.succeeded()?;
    let weights = |folder: &str| Results::in_folder(case.path(folder)).bytes("model.safetensors");
    ensure!(weights("own")? == weights("file")?, "the models differ");
    Ok(())
}

fn undecayed_adamw(model: &mut causal_lm::CausalLm) -> Result<Box<dyn Optimizer>, BoxError> {
    let gradients: Vec<_> =
        model.parameters_mut().gradients()?.iter().map(|gradient| gradient.shallow_clone()).collect();
    let weights = model.parameters().specs().iter().zip(model.parameters().weights());
    let parameters = weights
        .zip(&gradients)
        .map(|((spec, weight), gradient)| Parameter::new(&spec.name, weight).with_gradient(gradient));
    let group = ParameterGroup::new(parameters.collect(), AdamConfig::torch_default());
    Ok(Box::new(AdamW::new(vec![group], WeightUpdate::Exact)?))
}

#[test]
fn an_own_optimizer_trains_and_resumes_by_its_name_alone() -> Result<()> {
    let case = Case::new()?;
    let load = |name: &str, epochs: f64, resume: ResumeFrom| -> Result<SftTrainer<'static>, Error> {
        let mut config = config(&case.output_dir());
        config.training.num_train_epochs = epochs;
        config.run.resume_from_checkpoint = resume;
        let rows = SftTrainer::builder(config).rows(sentences(24, 0), Some(sentences(5, 0)));
        Ok(rows.optimizer(name, undecayed_adamw).load()?.callback(BestModelCheckpointCallback))
    };
    let first = load("mine", 1.0, ResumeFrom::Nothing)?.train()?;
    let losses = |trained: &sft_trainer::Trained| trained.output().metrics["train_loss"].as_f64();
    ensure!(losses(&first).is_some_and(f64::is_finite));
    first.publish()?;
    drop(first);

    let Err(error) = load("another", 2.0, ResumeFrom::Newest)?.train() else { anyhow::bail!("resumed") };
    ensure!(error.is_not_started() && error.to_string().contains("optim (was mine, is another)"), "{error}");
    let resumed = load("mine", 2.0, ResumeFrom::Newest)?.train()?;
    ensure!(resumed.output().state.global_step == 6);
    Ok(())
}

/// A mirror's address without its scheme is a common mistake. A run that downloads nothing does not
/// look at it.
#[test]
fn a_run_without_downloads_does_not_mind_the_settings_of_a_hub() -> Result<()> {
    let case = Case::new()?;
    let run = |training: Training| training.under("export HF_ENDPOINT=hf-mirror.example && exec \"$@\"").run();
    let finished = run(case.training(Path::new("owner/name"), &goldens::words()))?;
    ensure!(finished.failed_with(2)?.contains("HF_ENDPOINT is \"hf-mirror.example\""), "{}", finished.stderr);
    run(case.training(&goldens::model("qwen2"), &goldens::words()).flags("--max_steps 1"))?.succeeded()?;
    Ok(())
}
