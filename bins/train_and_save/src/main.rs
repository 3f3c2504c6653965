//! `train_and_save`: continues training a causal language model. The run is a library,
//! `sft-trainer`. Here are the command line, the configuration file, the terminal and the exit
//! codes; [`run`] reads as the documented run.

mod cli;
mod failure;
mod flags;
mod run;
mod terminal;
mod verbs;

use cli::Request;
use sft_trainer::callbacks::OnSignal;
use std::process::ExitCode;
use terminal::Terminal;

fn main() -> ExitCode {
    let outcome = cli::parse(std::env::args_os()).and_then(|request| match request {
        Request::Print(text) => {
            terminal::print(&text);
            Ok(run::Outcome::Complete)
        }
        Request::Train { settings, program } => {
            let on_signal = if program.save_on_signal { OnSignal::Save } else { OnSignal::Leave };
            let terminal = Terminal::open(&program);
            run::run(settings.config().map_err(failure::Failure::before_training)?, on_signal, &terminal)
        }
        Request::Answer { verb, settings, program, matches } => {
            let _terminal = Terminal::open(&program);
            verb.answer(settings, &matches)?;
            Ok(run::Outcome::Complete)
        }
    });
    match outcome {
        Ok(run::Outcome::Complete) => ExitCode::SUCCESS,
        Ok(run::Outcome::Stopped { signal }) => ExitCode::from(128 + signal),
        Err(error) => {
            terminal::error(&failure::with_flags(&failure::one_line(&error)));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
