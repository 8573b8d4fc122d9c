//! `revirt replay`.

use std::io::{self, IsTerminal as _};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use machine::Count;
use serde_json::{Value, json};
use session::{
    Difference, Divergence, Line, Options, Outcome, OutputPort, Recording, Replayed, Seconds,
    Watcher,
};

use crate::args::Replay;
use crate::disks;
use crate::exit::Exit;
use crate::live::engine;
use crate::outside::Screen;
use crate::report::Report;
use crate::statistics;

/// Shows the guest's output and how far the replay is.
struct Screening {
    screen: Screen,
    bar: ProgressBar,
}

impl Screening {
    /// With a bar if there is a terminal for it: not where the guest's console
    /// is shown, which tells as much and would be garbled.
    fn new(screen: Screen, report: &Report) -> Screening {
        let shown = !report.is_json() && io::stderr().is_terminal() && !io::stdout().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(
            "replaying {wide_bar} {percent}%  {elapsed} (about {eta} left)",
        )
        .expect("the template is well-formed");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Screening { screen, bar }
    }
}

impl session::Screen for Screening {
    fn print(&mut self, port: OutputPort, bytes: &[u8]) -> io::Result<()> {
        self.bar.suspend(|| self.screen.print(port, bytes))
    }
}

impl Watcher for Screening {
    fn progress(&mut self, branches: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(branches);
    }
}

pub(crate) fn replay(arguments: &Replay, report: &Report) -> Result<Exit> {
    let options = Options {
        until: arguments.until,
        engine: engine(arguments.engine),
        checks: arguments.checks,
        flip: arguments.inject_flip,
    };
    let recording = Recording::open(&arguments.dir)?;
    let disks = disks::recorded(&recording, &arguments.base, report)?;
    let screen = Screen::open(arguments.serial2.as_deref())?;
    let mut screening = Screening::new(screen, report);
    let replayed = session::replay(&recording, options, disks, &mut screening);
    screening.bar.finish_and_clear();
    let replayed = replayed?;
    let exit = match replayed.outcome {
        Outcome::Complete(_) | Outcome::CutOff(_) | Outcome::Stopped => Exit::Yes,
        Outcome::Diverged(_) => Exit::No,
    };
    let counts = if arguments.stats {
        replayed.counts.as_slice()
    } else {
        &[]
    };
    let text = text(&replayed).trim_end().to_owned() + &statistics::lines(counts);
    Ok(report.finish(exit, &text, fields(&replayed, counts)))
}

fn text(replayed: &Replayed) -> String {
    let Replayed {
        outcome,
        moment,
        guest_ns,
        events,
        epochs,
        output_bytes,
        registers,
        ..
    } = replayed;
    let time = Seconds(*guest_ns);
    let checked = format!(
        "{events} events agreed, {epochs} of them full checks; {output_bytes} bytes of output"
    );
    match outcome {
        Outcome::Complete(reason) => {
            format!(
                "replayed exactly: {}, after {time} of guest time. {checked}.",
                reason.doc()
            )
        }
        Outcome::CutOff(_) => format!(
            "replayed exactly, up to where the recording was cut off: at {moment}, after {time} of guest time. {checked}.\n\
             The recorder did not come to close this recording; what stands in it is whole."
        ),
        Outcome::Stopped => {
            let values = registers
                .iter()
                .map(|(name, value)| format!("\n{name:>16} {value:#x}"));
            format!(
                "stopped at {moment}, after {time} of guest time. {checked}.{}",
                values.collect::<String>()
            )
        }
        Outcome::Diverged(divergence) => format!(
            "{divergence}{}",
            if *events > 0 { checked } else { String::new() }
        ),
    }
}

fn fields(replayed: &Replayed, counts: &[Count]) -> Value {
    let mut fields = json!({
        "stats": statistics::object(counts),
        "outcome": match replayed.outcome {
            Outcome::Complete(_) => "complete",
            Outcome::CutOff(_) => "cut-off",
            Outcome::Stopped => "stopped",
            Outcome::Diverged(_) => "diverged",
        },
        "moment": replayed.moment.to_string(),
        "branches": replayed.moment.branches,
        "guest_ns": replayed.guest_ns,
        "events": replayed.events,
        "epochs": replayed.epochs,
        "output_bytes": replayed.output_bytes,
    });
    let (name, value) = match &replayed.outcome {
        Outcome::Complete(reason) => ("reason", json!(reason.name())),
        Outcome::CutOff(tail) => (
            "tail_bytes_lost",
            json!(tail.as_ref().map_or(0, |tail| tail.bytes_lost)),
        ),
        Outcome::Stopped => {
            let pairs = replayed.registers.iter();
            (
                "registers",
                pairs
                    .map(|(name, value)| (name.clone(), json!(format!("{value:#x}"))))
                    .collect(),
            )
        }
        Outcome::Diverged(divergence) => ("divergence", self::divergence(divergence)),
    };
    fields[name] = value;
    fields
}

fn divergence(divergence: &Divergence) -> Value {
    let moment = |moment: Option<moment::Moment>| moment.map(|moment| moment.to_string());
    json!({
        "event": divergence.event,
        "differences": divergence.differences.iter().map(difference).collect::<Vec<Value>>(),
        "agreed": moment(divergence.agreed),
        "agreed_fully": moment(divergence.agreed_fully),
        "before": divergence.before.iter()
            .map(|(number, event)| Line { number: *number, event }.to_string())
            .collect::<Vec<String>>(),
    })
}

fn difference(difference: &Difference) -> Value {
    let (what, expected, found) = match difference {
        Difference::Moment {
            expected, found, ..
        } => ("moment", expected.to_string(), found.to_string()),
        Difference::Register(register) => (
            register.name.as_str(),
            format!("{:#x}", register.expected),
            format!("{:#x}", register.found),
        ),
        Difference::Check { expected, found } => (
            "registers",
            format!("{expected:08x}"),
            format!("{found:08x}"),
        ),
        Difference::Memory {
            expected, found, ..
        } => ("memory", expected.to_string(), found.to_string()),
        Difference::Devices { expected, found } => {
            ("devices", expected.to_string(), found.to_string())
        }
        Difference::Output {
            expected_bytes,
            found_bytes,
            ..
        } => (
            "output",
            expected_bytes.to_string(),
            found_bytes.to_string(),
        ),
        Difference::End { expected, found } => (
            "end",
            expected.name().to_owned(),
            found.map_or("none", |reason| reason.name()).to_owned(),
        ),
    };
    json!({ "what": what, "expected": expected, "found": found, "text": difference.to_string() })
}
