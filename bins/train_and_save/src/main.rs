//! `train_and_save`: continues training a causal language model and leaves the best checkpoint in
//! `output_dir`.
//!
//! Everything of substance lives in the workspace's libraries; here they are wired together: flags
//! → [`settings`] → dataset, tokenizer, model, optimizer ([`run`]) → the loop → results and exit
//! code.

mod ahead;
mod batches;
mod cli;
mod device;
mod failure;
mod flags;
mod graphs;
mod identity;
mod learner;
mod memory;
mod model_source;
mod optimizer;
mod recompute;
mod results;
mod run;
mod settings;
mod signals;
mod summary;
mod terminal;

use cli::Request;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = cli::parse(std::env::args_os()).and_then(|request| match request {
        Request::Print(text) => {
            terminal::print(&text);
            Ok(run::Outcome::Complete)
        }
        Request::Train(flags) => run::run(settings::Settings::resolve(*flags)?),
    });
    match outcome {
        Ok(run::Outcome::Complete) => ExitCode::SUCCESS,
        Ok(run::Outcome::Stopped { signal }) => ExitCode::from(128 + signal),
        Err(error) => {
            terminal::say(&format!("error: {}", failure::one_line(&error)));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
