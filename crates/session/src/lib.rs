//! Record, replay, and divergence.
//!
//! A session brings a machine and a log together: [`run`] and [`record`] let a
//! guest run live, in one and the same loop, and [`replay`] runs a recorded
//! one again and checks it all the way. The machine knows of none of this, and
//! this crate knows the world only as a [`World`] that it is given.

mod checks;
mod describe;
mod divergence;
mod door;
mod epochs;
mod error;
mod flip;
mod live;
mod manifest;
mod pace;
mod packet;
mod recording;
mod registers;
mod replay;
mod storing;
mod suspects;
mod tape;
mod when;
mod world;

use std::path::Path;
use std::sync::Arc;

use log::Writer;
use machine::{Backing, EngineKind, Failed, Images, Machine, MachineConfig};

pub use checks::Checks;
pub use describe::{Line, Seconds};
pub use divergence::{Difference, Divergence, Instead};
pub use error::Error;
pub use flip::Flip;
pub use live::{Ended, OnReset};
pub use manifest::{Disk, Host, Image, MachineSummary, Manifest, Nic, print_mac};
pub use recording::{About, Recording};
pub use registers::RegisterDifference;
pub use replay::{Options, Outcome, Replayed, replay};
pub use suspects::Suspects;
pub use when::{NoSuchPlace, When};
pub use world::{Arrival, OutputPort, Room, Screen, Watcher, World};

use live::Live;
use storing::Storing;
use tape::Tape;

/// How a machine is run live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// What runs the guest.
    pub engine: EngineKind,
    /// What a reset by the guest does.
    pub on_reset: OnReset,
}

/// Runs a machine with `disks` without recording it.
///
/// `begin` makes the world, once the machine is ready to run: its clock starts
/// there.
pub fn run<W: World>(
    config: &MachineConfig,
    images: &Images,
    how: How,
    disks: Vec<Box<dyn Backing>>,
    begin: impl FnOnce() -> W,
) -> Result<Ended, Error> {
    let mut machine = Machine::new(config, images, how.engine)?;
    machine.insert_disks(disks)?;
    Live::new(
        &mut machine,
        &mut begin(),
        None,
        how.on_reset.images(images),
    )
    .run()
}

/// Runs a machine and records it in the new directory `dir`. `disks` gives
/// the contents of its disks, and may keep what it needs in
/// [`log::Layout::disks`] while the guest runs. `images` are still being
/// written when the guest starts: where they can't be, the run ends, and there
/// is no recording.
///
/// `begin` makes the world, once the machine is ready to run: its clock starts
/// there.
pub fn record<W: World>(
    dir: &Path,
    config: &MachineConfig,
    images: &Arc<Images>,
    how: How,
    about: About,
    disks: impl FnOnce(&log::Layout) -> Result<Vec<Box<dyn Backing>>, Failed>,
    begin: impl FnOnce() -> W,
) -> Result<Ended, Error> {
    let mut machine = Machine::new(config, images, how.engine)?;
    let layout = registers::Layout::current();
    let checks = about.checks;
    let recording = Recording::create(dir, config, images, &layout, about)?;
    let inserted = disks(recording.layout())
        .map_err(Error::Disks)
        .and_then(|disks| Ok(machine.insert_disks(disks)?));
    if inserted.is_err() {
        // We made it a moment ago, and without its disks it is of no use.
        let _ = std::fs::remove_dir_all(dir);
    }
    inserted?;
    let writer = Writer::create(dir, recording.digest())?;
    let storing = Storing::start(recording.layout(), images)?;
    let registers = registers::View::new(layout, &machine);
    let tape = Tape::new(writer, registers, checks, storing);
    let images = how.on_reset.images(images);
    let ended = Live::new(&mut machine, &mut begin(), Some(tape), images).run();
    // What the guest wrote to its disks, a replay writes again.
    let _ = std::fs::remove_dir_all(recording.layout().disks());
    if let Err(Error::Write { .. }) = ended {
        // Without its images it can't be replayed.
        let _ = std::fs::remove_dir_all(dir);
    }
    ended
}

impl OnReset {
    fn images(self, images: &Images) -> Option<&Images> {
        match self {
            OnReset::Restart => Some(images),
            OnReset::End => None,
        }
    }
}
