//! `revirt run` and `revirt record`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use host::Console;
use log::EndReason;
use machine::{Count, EngineKind};
use serde_json::{Value, json};
use session::{About, Ended, How, OnReset, Seconds};

use crate::args::{Engine, Machine, Record, Run};
use crate::disks::{self, Contents};
use crate::exit::Exit;
use crate::kernel;
use crate::network;
use crate::outside::{Outside, Screen};
use crate::report::Report;
use crate::statistics;

/// The engine that was asked for.
pub(crate) fn engine(wanted: Engine) -> EngineKind {
    match wanted {
        Engine::Interp => EngineKind::Interpreter,
        Engine::Jit => EngineKind::Jit,
        Engine::Lockstep => EngineKind::Lockstep,
    }
}

/// The name of `engine` in a manifest: that of the command line.
fn engine_name(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Interpreter => "interp",
        EngineKind::Jit => "jit",
        EngineKind::Lockstep => "lockstep",
    }
}

pub(crate) fn run(arguments: &Run, report: &Report) -> Result<Exit> {
    let engine = engine(arguments.machine.engine);
    let drives = disks::open(&arguments.machine.disk, Contents::Unknown, report)?;
    let cards = network::cards(&arguments.machine)?;
    let (config, images) = kernel::machine(&arguments.machine, &drives, &cards, report)?;
    let disks = disks::forgotten(drives)?;
    let screen = Screen::open(arguments.machine.serial2.as_deref())?;
    let console = open(&arguments.machine, report)?;
    let wires = network::connect(&cards, console.arrivals())?;
    let how = how(&arguments.machine, engine);
    let begin = || Outside::begin(console, screen, wires, *report);
    let ended = session::run(&config, &images, how, disks, begin)?;
    let counts = counts(&arguments.machine, &ended);
    let text = format!("{}.{}", what_happened(&ended), statistics::lines(counts));
    Ok(report.finish(exit(&ended), &text, fields(&ended, counts)))
}

pub(crate) fn record(arguments: &Record, report: &Report) -> Result<Exit> {
    let engine = engine(arguments.machine.engine);
    let dir = &arguments.output;
    if dir.symlink_metadata().is_ok() {
        return Err(session::Error::Exists(dir.clone()).into());
    }
    // Known before a large image is read, not after.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(Err(source)) = parent.map(std::fs::metadata) {
        let path = dir.clone();
        return Err(session::Error::Write { path, source }.into());
    }
    let drives = disks::open(&arguments.machine.disk, contents(arguments), report)?;
    let cards = network::cards(&arguments.machine)?;
    let (config, images) = kernel::machine(&arguments.machine, &drives, &cards, report)?;
    let stamps = disks::stamps(&drives);
    let host::Description { kernel, cpu } = host::Description::read();
    let about = About {
        program: concat!("revirt ", env!("CARGO_PKG_VERSION")).to_owned(),
        engine: engine_name(engine).to_owned(),
        checks: arguments.checks,
        host: session::Host { kernel, cpu },
        disks: disks::describe(&drives, arguments.embed),
        nics: network::describe(&cards),
    };
    let screen = Screen::open(arguments.machine.serial2.as_deref())?;
    let console = open(&arguments.machine, report)?;
    let wires = network::connect(&cards, console.arrivals())?;
    let ended = session::record(
        dir,
        &config,
        &Arc::new(images),
        how(&arguments.machine, engine),
        about,
        |layout| disks::kept(drives, arguments.embed, layout, report),
        || Outside::begin(console, screen, wires, *report),
    )?;
    if !arguments.embed {
        // What was recorded stands, but only the image as it was replays it.
        stamps.iter().try_for_each(host::disk::Stamps::check)?;
    }
    let counts = counts(&arguments.machine, &ended);
    let text = format!(
        "{}.\nRecorded in {dir} ({events} events). Replay it with: revirt replay {dir}{counts}",
        what_happened(&ended),
        dir = dir.display(),
        events = ended.events,
        counts = statistics::lines(counts),
    );
    Ok(report.finish(exit(&ended), &text, fields(&ended, counts)))
}

/// A copy goes into the recording for good: of that, nothing is taken on trust.
fn contents(arguments: &Record) -> Contents {
    if arguments.read_disks || arguments.embed {
        Contents::Read
    } else {
        Contents::Known
    }
}

fn how(arguments: &Machine, engine: EngineKind) -> How {
    let on_reset = if arguments.no_reboot {
        OnReset::End
    } else {
        OnReset::Restart
    };
    How { engine, on_reset }
}

fn open(arguments: &Machine, report: &Report) -> Result<Console> {
    let console = Console::open(Duration::from_secs(arguments.grace.into()))?;
    if console.is_terminal() {
        report.note(&format!(
            "press {} then h for help, {} then q to quit",
            host::ESCAPE_NAME,
            host::ESCAPE_NAME
        ));
    }
    Ok(console)
}

fn exit(ended: &Ended) -> Exit {
    match ended.reason {
        EndReason::PoweredOff | EndReason::Reset | EndReason::Stopped => Exit::Yes,
        EndReason::Crashed | EndReason::Halted => Exit::No,
        EndReason::LogFailed | EndReason::DiskFailed => Exit::Unknown,
    }
}

fn what_happened(ended: &Ended) -> String {
    let Ended {
        moment,
        guest_ns,
        reason,
        ..
    } = ended;
    let time = Seconds(*guest_ns);
    match (reason, ended.debug_exit) {
        (_, Some(value)) => {
            format!(
                "the guest wrote {value:#x} to the debug exit port after {time} of guest time, at {moment}"
            )
        }
        (EndReason::Stopped, _) => format!("stopped after {time} of guest time, at {moment}"),
        (reason, _) => format!("{} after {time} of guest time, at {moment}", reason.doc()),
    }
}

/// The counts to tell: none, unless they were asked for.
fn counts<'a>(machine: &Machine, ended: &'a Ended) -> &'a [Count] {
    if machine.stats { &ended.counts } else { &[] }
}

fn fields(ended: &Ended, counts: &[Count]) -> Value {
    json!({
        "stats": statistics::object(counts),
        "reason": ended.reason.name(),
        "debug_exit": ended.debug_exit,
        "moment": ended.moment.to_string(),
        "branches": ended.moment.branches,
        "guest_ns": ended.guest_ns,
        "host_ns": ended.host_ns,
        "busy_ns": ended.busy_ns,
        "output_bytes": ended.output_bytes,
        "events": ended.events,
        "resets": ended.resets,
    })
}
