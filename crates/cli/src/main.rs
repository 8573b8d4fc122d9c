//! The `revirt` command: wires the crates to the command line.
//!
//! The guest's console is standard input and output, and nothing else is ever
//! printed there while a guest runs; all that we say goes to standard error.

mod args;
mod disks;
mod exit;
mod image;
mod initrd;
mod inspect;
mod kernel;
mod live;
mod network;
mod outside;
mod progress;
mod replay;
mod report;
mod size;
mod statistics;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};
use report::Report;

fn main() -> ExitCode {
    let Arguments { command, json } = Arguments::parse();
    let report = Report::new(command.name(), command.owns_stdout(), json);
    let outcome = match &command {
        Command::Image(arguments) => image::image(arguments, &report),
        Command::Run(arguments) => live::run(arguments, &report),
        Command::Record(arguments) => live::record(arguments, &report),
        Command::Replay(arguments) => replay::replay(arguments, &report),
        Command::Verify(arguments) => inspect::verify(arguments, &report),
        Command::Info(arguments) => inspect::info(arguments, &report),
        Command::Log(arguments) => inspect::log(arguments, &report),
    };
    outcome
        .unwrap_or_else(|error| report.failure(&error))
        .into()
}
