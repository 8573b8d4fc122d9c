//! The machine and its run loop.

use cpu::{Count, Cpu, Engine, Exit, Interpreter, Model, Registers, Until, encode_registers};
use devices::virtio::{Reception, Transport};
use devices::{Backing, Failed};
use jit::Jit;
use memory::{Ram, flag};
use moment::Moment;
use seal::{Digest, Digester};
use x86::flags;

use crate::board::Board;
use crate::lockstep;
use crate::memory_digest::MemoryDigest;
use crate::{Disagreement, Error, Images, Input, MachineConfig, Output, Stop, boot, saved};

/// What runs guest code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// The reference interpreter.
    Interpreter,
    /// The translator.
    #[default]
    Jit,
    /// The translator, judged by the interpreter at every branch: slow.
    Lockstep,
}

/// A virtual machine.
pub struct Machine {
    config: MachineConfig,
    kind: EngineKind,
    cpu: Cpu,
    engine: Box<dyn Engine>,
    board: Board,
    memory_digest: MemoryDigest,
    /// In lockstep, the machine on the interpreter.
    judge: Option<Box<Machine>>,
    disagreement: Option<Box<Disagreement>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine at {}", self.moment())
    }
}

/// A processor at its start, with memory into which `images` are loaded.
fn loaded(config: &MachineConfig, images: &Images) -> Result<Cpu, Error> {
    let mut cpu = Cpu::new(Ram::new(config.memory_bytes)?);
    cpu.tsc_hz = config.tsc_hz;
    cpu.model = config.cpu;
    boot::load(config, images, &mut cpu)?;
    cpu.refresh();
    Ok(cpu)
}

fn engine_of(kind: EngineKind) -> Result<Box<dyn Engine>, Error> {
    Ok(match kind {
        EngineKind::Interpreter => Box::new(Interpreter::new()),
        EngineKind::Jit | EngineKind::Lockstep => Box::new(Jit::new()?),
    })
}

/// The seed of the guest's random numbers after so many resets: a guest must
/// not draw the same numbers twice.
fn seed_after(seed: &[u8; 32], resets: u64) -> [u8; 32] {
    let mut digester = Digester::for_purpose("ReVirt machine: seed after a reset");
    digester.feed(seed);
    digester.feed(&resets.to_le_bytes());
    digester.digest().0
}

impl Machine {
    /// A machine at its start, the kernel loaded. The digests of `images` must
    /// be those that `config` names.
    pub fn new(
        config: &MachineConfig,
        images: &Images,
        kind: EngineKind,
    ) -> Result<Machine, Error> {
        config.check(images)?;
        silicon::supported(match config.cpu {
            Model::V2 => silicon::Level::V2,
            Model::V3 => silicon::Level::V3,
        })?;
        let cpu = loaded(config, images)?;
        let judge = match kind {
            EngineKind::Lockstep => Some(Box::new(Machine::new(
                config,
                images,
                EngineKind::Interpreter,
            )?)),
            EngineKind::Interpreter | EngineKind::Jit => None,
        };
        let board = Board::new(config, &cpu.ram);
        Ok(Machine {
            config: config.clone(),
            kind,
            cpu,
            engine: engine_of(kind)?,
            board,
            memory_digest: MemoryDigest::default(),
            judge,
            disagreement: None,
        })
    }

    /// Puts disks into the machine's drives, in the order of its configuration.
    /// One that has drives needs this before it runs, and after its devices
    /// were restored: then with the contents of that time.
    pub fn insert_disks(&mut self, disks: Vec<Box<dyn Backing>>) -> Result<(), Error> {
        if self.judge.is_some() && !disks.is_empty() {
            return Err(Error::NotYet {
                what: "lockstep of a machine with disks",
            });
        }
        self.board.insert_disks(&self.config, disks)
    }

    /// Why disk `disk` failed, if it did.
    pub fn disk_failure(&self, disk: usize) -> Option<&Failed> {
        self.board.disks.get(disk)?.function.failure()
    }

    /// Runs until `until`, or until something else stops the machine. Timers
    /// that are due at the branch count where it stops have fired.
    pub fn run(&mut self, until: Until) -> Stop {
        let Some(mut judge) = self.judge.take() else {
            return self.run_alone(until);
        };
        let stop = if self.disagreement.is_none() {
            lockstep::run(self, &mut judge, until)
        } else {
            Ok(Stop::Disagreed)
        };
        self.judge = Some(judge);
        stop.unwrap_or_else(|disagreement| {
            self.disagreement = Some(disagreement);
            Stop::Disagreed
        })
    }

    /// Where the engines disagreed, after [`Stop::Disagreed`].
    pub fn disagreement(&self) -> Option<&Disagreement> {
        self.disagreement.as_deref()
    }

    /// [`Machine::run`] without a judge.
    pub(crate) fn run_alone(&mut self, until: Until) -> Stop {
        loop {
            let due = self.board.fire(self.cpu.branches);
            if let Some(stop) = self.board.ended {
                return stop;
            }
            // Timers fire before anything else happens at their branch count,
            // so a run to a moment halts there first.
            let towards = match until {
                Until::Branches(branches) => Until::Branches(branches.min(due)),
                Until::Moment(moment) if due <= moment.branches => Until::Branches(due),
                Until::Moment(_) | Until::Step => until,
            };
            let exit = self.engine.run(&mut self.cpu, &mut self.board, towards);
            match exit {
                Exit::Reached if towards == until => {
                    self.board.fire(self.cpu.branches);
                    return self.board.ended.unwrap_or(Stop::Reached);
                }
                Exit::Reached | Exit::Attention => {}
                Exit::Missed => return Stop::Missed,
                Exit::Halted => {
                    return Stop::Idle {
                        deadline_ns: self.board.deadline_ns(),
                        is_dead: !self.cpu.flags.has(flags::IF),
                    };
                }
                Exit::Shutdown => self.board.ended = Some(Stop::Shutdown),
            }
        }
    }

    /// Starts the machine again after [`Stop::Reset`], from `images`, which
    /// must be those it was made from: memory, processor and devices are as at
    /// its start. Time and the branch count go on; the reset counts as one
    /// branch, so that what comes after it has moments of its own.
    pub fn restart(&mut self, images: &Images) -> Result<(), Error> {
        if let Some(judge) = &mut self.judge {
            judge.restart(images)?;
        }
        self.config.check(images)?;
        let branches = self.cpu.branches + 1;
        let resets = self.board.resets + 1;
        let mut config = self.config.clone();
        config.rng_seed = seed_after(&config.rng_seed, resets);
        self.cpu = loaded(&config, images)?;
        self.cpu.branches = branches;
        self.cpu.refresh();
        self.engine = engine_of(self.kind)?;
        self.board.reset(&self.config, &self.cpu.ram, branches);
        self.memory_digest = MemoryDigest::default();
        Ok(())
    }

    /// How often the guest has reset the machine.
    pub fn resets(&self) -> u64 {
        self.board.resets
    }

    /// Moves the time of an idle machine forward to `ns` since the start, and
    /// fires the timers that are due. The jump counts as one branch, so that
    /// each period of idleness has a moment of its own: at a given moment a
    /// replay never has to guess how often time was moved before an input.
    pub fn idle_to(&mut self, ns: u64) {
        if let Some(judge) = &mut self.judge {
            judge.idle_to(ns);
        }
        self.board.clock.skip(self.cpu.branches, ns);
        self.cpu.branches += 1;
        self.board.fire(self.cpu.branches);
    }

    /// Brings `input` in at the present moment. Returns whether it was taken:
    /// console bytes and frames are refused, as a whole, when there is no room
    /// for them.
    pub fn input(&mut self, input: &Input) -> bool {
        if let Some(judge) = &mut self.judge {
            judge.input(input);
        }
        match input {
            Input::Console(bytes) => self.board.type_bytes(bytes),
            Input::PowerButton => {
                self.board.press_power_button();
                true
            }
            Input::ClockSample { host_ns } => {
                let branches = self.cpu.branches;
                self.board.clock.sample(branches, *host_ns, self.cpu.halted);
                self.board.fire(branches);
                true
            }
            Input::Frame { nic, bytes } => self.board.receive(&self.cpu.ram, *nic, bytes),
            Input::Link { nic, is_up } => self.board.set_link(*nic, *is_up),
            Input::Entropy(bytes) => self.board.bring_entropy(&self.cpu.ram, bytes),
        }
    }

    /// What would become of a frame that came to network card `nic` now.
    pub fn reception(&self, nic: usize) -> Reception {
        self.board.reception(nic)
    }

    /// Whether the guest waits for random bytes.
    pub fn wants_entropy(&self) -> bool {
        self.board
            .rng
            .as_ref()
            .is_some_and(Transport::wants_entropy)
    }

    /// How many more console bytes the machine takes now.
    pub fn console_room(&self) -> usize {
        self.board.uart.room()
    }

    /// What went out since the last call, in order.
    pub fn take_output(&mut self) -> Vec<Output> {
        if let Some(judge) = &mut self.judge {
            drop(judge.take_output());
        }
        self.board.outputs.take()
    }

    /// A digest of all output since the start, ports and bytes in order,
    /// however it was cut into pieces.
    pub fn digest_output(&self) -> Digest {
        self.board.outputs.digest()
    }

    /// How many bytes went out since the start, on all ports.
    pub fn output_bytes(&self) -> u64 {
        self.board.outputs.bytes()
    }

    /// Where the run is.
    pub fn moment(&self) -> Moment {
        self.cpu.moment()
    }

    /// Guest time, in ns since the start.
    pub fn now_ns(&self) -> u64 {
        self.board.clock.at(self.cpu.branches)
    }

    /// The first branch count at which guest time reaches `ns`, if neither a
    /// sample nor idleness moves it before.
    pub fn branches_at(&self, ns: u64) -> u64 {
        self.board.clock.branches_at(ns)
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// The processor, to look at.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The processor, for a look that may fill its soft TLB.
    pub(crate) fn cpu_mut(&mut self) -> &mut Cpu {
        &mut self.cpu
    }

    /// Where the engine's time went.
    pub fn engine_counts(&self) -> Vec<Count> {
        self.engine.counts()
    }

    /// All registers, by name.
    pub fn registers(&self) -> Registers {
        Registers::of(&self.cpu)
    }

    /// A digest of all registers.
    pub fn digest_registers(&self) -> Digest {
        let mut bytes = Vec::with_capacity(2048);
        encode_registers(&self.cpu, &mut bytes);
        Digest::of(&bytes)
    }

    /// A digest of memory: only pages written since the last call are hashed.
    pub fn digest_memory(&mut self) -> Digest {
        let digest = self.memory_digest.update(&self.cpu.ram);
        self.cpu.see_stores();
        digest
    }

    /// How many pages were written since the last digest of memory.
    pub fn written_pages(&self) -> u64 {
        self.cpu.ram.pages().with(flag::DIRTY).count() as u64
    }

    /// The same digest with every page hashed anew: it sees changes that did
    /// not come from the machine.
    pub fn digest_memory_fully(&mut self) -> Digest {
        let _ = self.cpu.ram.take_dirty();
        self.cpu.see_stores();
        self.memory_digest.update_fully(&self.cpu.ram)
    }

    /// The digest of page `number` as of the last digest of memory; 32 zero
    /// bytes for a page of zeros.
    pub fn page_digest(&self, number: u64) -> Digest {
        self.memory_digest.page(number)
    }

    /// The state of all devices and of the clock, as bytes.
    pub fn save_devices(&self) -> Vec<u8> {
        saved::save(&self.board)
    }

    /// Puts the state that [`Machine::save_devices`] gave in place of the
    /// present one. After an error the machine is of no use.
    pub fn restore_devices(&mut self, bytes: &[u8]) -> Result<(), Error> {
        saved::restore(&mut self.board, bytes)
    }

    /// A digest of the state of all devices and of the clock.
    pub fn digest_devices(&self) -> Digest {
        Digest::of(&self.save_devices())
    }
}
