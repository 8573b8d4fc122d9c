//! The machine and its run loop.

use cpu::{Cpu, Engine, Interpreter, Until};
use moment::Moment;
use seal::{Digest, Digester};

use crate::memory_digest::MemoryDigest;
use crate::{Clock, Error, Images, Input, MachineConfig, Output, Registers, Stop};

/// What runs guest code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// The reference interpreter.
    #[default]
    Interpreter,
}

/// A virtual machine.
pub struct Machine {
    config: MachineConfig,
    cpu: Cpu,
    engine: Box<dyn Engine>,
    clock: Clock,
    memory_digest: MemoryDigest,
    output: Vec<Output>,
    output_digester: Digester,
    output_bytes: u64,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine at {}", self.moment())
    }
}

impl Machine {
    /// A machine at its start, the kernel loaded. The digests of `images` must
    /// be those that `config` names.
    pub fn new(
        config: &MachineConfig,
        images: &Images,
        engine: EngineKind,
    ) -> Result<Machine, Error> {
        let digest = Digest::of(&images.kernel);
        if digest != config.kernel {
            return Err(Error::WrongImage {
                what: "kernel",
                expected: config.kernel,
                found: digest,
            });
        }
        let engine: Box<dyn Engine> = match engine {
            EngineKind::Interpreter => Box::new(Interpreter::new()),
        };
        let _ = engine;
        Err(Error::NotYet {
            what: "booting a kernel",
        })
    }

    /// Runs until `until`, or until something else stops the machine. Timers
    /// that are due at the branch count where it stops have fired.
    pub fn run(&mut self, until: Until) -> Stop {
        let _ = (until, &mut self.engine);
        Stop::Missed
    }

    /// Moves the time of an idle machine forward to `ns` since the start, and
    /// fires the timers that are due. The jump counts as one branch, so that
    /// each period of idleness has a moment of its own: at a given moment a
    /// replay never has to guess how often time was moved before an input.
    pub fn idle_to(&mut self, ns: u64) {
        self.clock.skip(self.cpu.branches, ns);
        self.cpu.branches += 1;
    }

    /// Brings `input` in at the present moment. Returns whether it was taken:
    /// console bytes are refused, as a whole, when there is no room for them.
    pub fn input(&mut self, input: &Input) -> bool {
        match input {
            Input::ClockSample { host_ns } => {
                self.clock
                    .sample(self.cpu.branches, *host_ns, self.cpu.halted);
                true
            }
            Input::Console(_) | Input::PowerButton => false,
        }
    }

    /// How many more console bytes the machine takes now.
    pub fn console_room(&self) -> usize {
        0
    }

    /// What went out since the last call, in order.
    pub fn take_output(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.output)
    }

    /// A digest of all output since the start, ports and bytes in order,
    /// however it was cut into pieces.
    pub fn digest_output(&self) -> Digest {
        self.output_digester.digest()
    }

    /// How many bytes went out since the start, on all ports.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    /// Where the run is.
    pub fn moment(&self) -> Moment {
        self.cpu.moment()
    }

    /// Guest time, in ns since the start.
    pub fn now_ns(&self) -> u64 {
        self.clock.at(self.cpu.branches)
    }

    /// The first branch count at which guest time reaches `ns`, if neither a
    /// sample nor idleness moves it before.
    pub fn branches_at(&self, ns: u64) -> u64 {
        self.clock.branches_at(ns)
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// The processor, to look at.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// All registers, by name.
    pub fn registers(&self) -> Registers {
        Registers::of(&self.cpu)
    }

    /// A digest of all registers.
    pub fn digest_registers(&self) -> Digest {
        self.registers().digest()
    }

    /// A digest of memory: only pages written since the last call are hashed.
    pub fn digest_memory(&mut self) -> Digest {
        let written = self.cpu.ram.take_dirty();
        self.cpu.tlb.flush_writes();
        self.memory_digest
            .update(&self.cpu.ram, written.into_iter())
    }

    /// The same digest with every page hashed anew: it sees changes that did
    /// not come from the machine.
    pub fn digest_memory_fully(&mut self) -> Digest {
        let _ = self.cpu.ram.take_dirty();
        self.cpu.tlb.flush_writes();
        self.memory_digest.update_fully(&self.cpu.ram)
    }

    /// The digest of page `number` as of the last digest of memory; 32 zero
    /// bytes for a page of zeros.
    pub fn page_digest(&self, number: u64) -> Digest {
        self.memory_digest.page(number)
    }

    /// A digest of the state of all devices and of the clock.
    pub fn digest_devices(&self) -> Digest {
        Digest::default()
    }
}
