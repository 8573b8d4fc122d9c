//! `revirt verify`, `revirt info` and `revirt log`: they run no machine.

use std::io::{self, BufWriter, ErrorKind, Write};

use anyhow::Result;
use log::{Body, Door, Info, Kind, Placed, Reader, Verified};
use serde_json::{Value, json};
use session::{Line, Manifest, Recording, Seconds};

use crate::args::{Dir, Log};
use crate::exit::Exit;
use crate::report::Report;
use crate::size;

pub(crate) fn verify(arguments: &Dir, report: &Report) -> Result<Exit> {
    let dir = arguments.dir.display();
    let recording = Recording::open(&arguments.dir)?;
    let Verified { info, images, .. } = recording.verify()?;
    let (exit, text) = if info.is_whole() {
        (Exit::Yes, format!("{dir} is whole and unaltered"))
    } else {
        let text = "is not whole: its recorder was cut off before it could close it; what stands there is unaltered";
        (Exit::No, format!("{dir} {text}"))
    };
    let disks = &recording.manifest().disks;
    let outside = disks.iter().filter(|disk| !disk.embedded).count();
    let text = format!(
        "{text}: {} events in {} frames, {images} images.{}",
        info.events(),
        info.frames,
        if outside > 0 {
            "\nThe images of its disks lie outside of it: a replay checks them."
        } else {
            ""
        }
    );
    let fields = json!({
        "whole": info.is_whole(),
        "unaltered": true,
        "events": info.events(),
        "frames": info.frames,
        "images": images,
        "images_outside": outside,
        "chain": info.chain.to_string(),
        "tail_bytes_lost": info.tail.as_ref().map_or(0, |tail| tail.bytes_lost),
    });
    Ok(report.finish(exit, &text, fields))
}

pub(crate) fn info(arguments: &Dir, report: &Report) -> Result<Exit> {
    let recording = Recording::open(&arguments.dir)?;
    let info = Info::read(&arguments.dir).map_err(session::Error::from)?;
    let text = describe(recording.manifest(), &info);
    Ok(report.finish(Exit::Yes, &text, info_fields(recording.manifest(), &info)))
}

fn describe(manifest: &Manifest, info: &Info) -> String {
    let mut lines = vec![
        format!(
            "made by       {} ({} engine, {} checks)",
            manifest.program, manifest.engine, manifest.checks
        ),
        format!(
            "on            {}, Linux {}",
            manifest.host.cpu, manifest.host.kernel
        ),
        format!(
            "machine       {} of memory, {} processor (x86-64-{}), {} boot",
            size::print(manifest.machine.memory_bytes),
            manifest.machine.vcpus,
            manifest.machine.cpu,
            manifest.machine.boot
        ),
        format!("command line  {}", manifest.machine.append),
    ];
    for image in &manifest.images {
        lines.push(format!(
            "{:<13} {} bytes, BLAKE3 {}",
            image.name, image.bytes, image.digest
        ));
    }
    for (number, disk) in manifest.disks.iter().enumerate() {
        lines.push(format!(
            "disk {number:<8} {} bytes{}, serial {}, BLAKE3 {}; {}",
            disk.bytes,
            if disk.read_only { ", read-only" } else { "" },
            disk.serial,
            disk.digest,
            if disk.embedded {
                "embedded".to_owned()
            } else {
                format!("lies on {} ({})", disk.path, disk.format)
            }
        ));
    }
    for (number, nic) in manifest.nics.iter().enumerate() {
        lines.push(format!(
            "network {number:<5} {}, packets of up to {} bytes; connected to {}",
            nic.mac, nic.mtu, nic.connected_to
        ));
    }
    let end = match info.ended {
        Some(reason) => reason.doc().to_owned(),
        None => "the recorder was cut off; what stands here is whole".to_owned(),
    };
    lines.push(format!("ended         {end}"));
    let branches = info.last.map_or(0, |moment| moment.branches);
    lines.push(format!(
        "length        {branches} branches, {} to the last clock sample",
        Seconds(info.duration_ns)
    ));
    lines.push(format!("output        {} bytes", info.output_bytes));
    lines.push(format!(
        "log           {} bytes in {} segments and {} frames, {} events of {} bytes before compression",
        info.bytes,
        info.segments,
        info.frames,
        info.events(),
        info.event_bytes()
    ));
    for kind in Kind::ALL {
        let count = info.kind(*kind);
        lines.push(format!(
            "  {:<11} {:>8} events {:>10} bytes  {}",
            kind.name(),
            count.events,
            count.bytes,
            kind.doc()
        ));
    }
    for door in Door::ALL {
        let count = info.door(*door);
        lines.push(format!(
            "  {:<11} {:>8} inputs {:>10} bytes  {}",
            door.name(),
            count.events,
            count.bytes,
            door.doc()
        ));
    }
    lines.join("\n")
}

fn info_fields(manifest: &Manifest, info: &Info) -> Value {
    let kinds: Value = Kind::ALL
        .iter()
        .map(|kind| {
            let count = info.kind(*kind);
            (
                kind.name().to_owned(),
                json!({ "events": count.events, "bytes": count.bytes }),
            )
        })
        .collect();
    let doors: Value = Door::ALL
        .iter()
        .map(|door| {
            let count = info.door(*door);
            (
                door.name().to_owned(),
                json!({ "inputs": count.events, "bytes": count.bytes }),
            )
        })
        .collect();
    json!({
        "manifest": serde_json::to_value(manifest).unwrap_or_default(),
        "ended": info.ended.map(|reason| reason.name()),
        "branches": info.last.map_or(0, |moment| moment.branches),
        "duration_ns": info.duration_ns,
        "output_bytes": info.output_bytes,
        "log_bytes": info.bytes,
        "segments": info.segments,
        "frames": info.frames,
        "events": info.events(),
        "event_bytes": info.event_bytes(),
        "kinds": kinds,
        "doors": doors,
        "chain": info.chain.to_string(),
    })
}

pub(crate) fn log(arguments: &Log, report: &Report) -> Result<Exit> {
    Recording::open(&arguments.dir)?;
    let mut reader = Reader::open(&arguments.dir).map_err(session::Error::from)?;
    let mut out = BufWriter::new(io::stdout().lock());
    match print(arguments, report, &mut reader, &mut out) {
        // Whoever closed our output has seen enough.
        Err(Trouble::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            return Ok(Exit::Yes);
        }
        Err(Trouble::Output(error)) => {
            anyhow::bail!("standard output can't be written ({error}): check where it goes")
        }
        Err(Trouble::Log(error)) => {
            // What came before stands, and has been printed.
            let _ = out.flush();
            let error = session::Error::from(error).into();
            // The object that was begun tells it, too.
            return if report.is_json() {
                Ok(Exit::of(&error))
            } else {
                Err(error)
            };
        }
        Ok(()) => {}
    }
    if reader.ended().is_none() {
        report.note("the recorder was cut off here; what stands before is whole");
    }
    Ok(Exit::Yes)
}

enum Trouble {
    Output(io::Error),
    Log(log::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Output(error)
    }
}

/// Prints the events; as JSON, one object that is written piece by piece, so
/// that a long log needs no more memory than a short one.
fn print(
    arguments: &Log,
    report: &Report,
    reader: &mut Reader,
    out: &mut impl Write,
) -> Result<(), Trouble> {
    if report.is_json() {
        write!(out, "{{\"command\":\"log\",\"events\":[")?;
    }
    let mut separator = "";
    for (number, placed) in (0..).zip(&mut *reader) {
        let placed = match placed {
            Ok(placed) => placed,
            Err(error) => {
                if report.is_json() {
                    writeln!(out, "],\"exit\":1,\"error\":{}}}", json!(error.to_string()))?;
                }
                return Err(Trouble::Log(error));
            }
        };
        if !is_wanted(arguments, &placed) {
            continue;
        }
        if report.is_json() {
            write!(out, "{separator}\n{}", event_fields(number, &placed))?;
            separator = ",";
        } else {
            writeln!(
                out,
                "{}",
                Line {
                    number,
                    event: &placed.event
                }
            )?;
        }
    }
    if report.is_json() {
        writeln!(
            out,
            "\n],\"exit\":0,\"whole\":{}}}",
            reader.ended().is_some()
        )?;
    }
    Ok(out.flush()?)
}

fn is_wanted(arguments: &Log, placed: &Placed) -> bool {
    let event = &placed.event;
    let branches = event.moment.branches;
    (arguments.kind.is_empty() || arguments.kind.contains(&event.body.kind()))
        && (arguments.from..arguments.to).contains(&branches)
}

fn event_fields(number: u64, placed: &Placed) -> Value {
    let event = &placed.event;
    let mut fields = json!({
        "event": number,
        "branches": event.moment.branches,
        "pc": format!("{:#x}", event.moment.pc),
        "rcx": event.moment.rcx,
        "vcpu": event.vcpu,
        "check": format!("{:08x}", event.check),
        "kind": event.body.kind().name(),
        "segment": placed.place.segment,
        "offset": placed.place.offset,
    });
    let mut add = |name: &str, value: Value| fields[name] = value;
    match &event.body {
        Body::Clock { ns } => add("ns", json!(ns)),
        Body::Input { door, bytes } => {
            add("door", json!(door.name()));
            add("bytes", json!(bytes.len()));
            add("text", json!(bytes.escape_ascii().to_string()));
        }
        Body::Epoch {
            memory,
            devices,
            output,
            output_bytes,
            ..
        } => {
            add("memory", json!(memory.to_string()));
            add("devices", json!(devices.to_string()));
            add("output", json!(output.to_string()));
            add("output_bytes", json!(output_bytes));
        }
        Body::Registers { bytes } => add("bytes", json!(bytes.len())),
        Body::End { reason } => add("reason", json!(reason.name())),
    }
    fields
}
