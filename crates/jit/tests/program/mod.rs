//! Random programs on both engines, side by side: compared at every stop, and
//! stopped at random.

#![allow(clippy::cast_possible_truncation, reason = "offsets in 1 MiB of RAM")]

mod code;
mod kernel;

use std::fmt::Write;

use cpu::{Bus, CodeSize, Cpu, Engine, Exit, Interpreter, Refused, Registers, TscLine, Until};
use jit::Jit;
use memory::{Ram, flag};
use moment::Moment;
use oracle::random::{Random, mix};
use x86::{Linear, PAGE_BYTES, Physical};

pub(crate) use code::Pool;
use code::Program;
use kernel::{CODE, CODE_PAGES, ENTRIES, RAM_BYTES};

/// A board that remembers, writes to code when asked to, and interrupts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Board {
    interrupt: Option<u8>,
    nmi: bool,
    priority: u8,
    /// What was read and written so far, mixed up.
    seen: u64,
}

impl Board {
    fn note(&mut self, now: u64, at: u64, value: u64) {
        self.seen = mix(self.seen ^ mix(now ^ mix(at ^ mix(value))));
    }
}

impl Bus for Board {
    fn read(&mut self, _: &Ram, now: u64, at: Physical, bytes: u8) -> u64 {
        self.note(now, at.0, bytes.into());
        at.0 ^ now
    }
    fn write(&mut self, _: &Ram, now: u64, at: Physical, bytes: u8, value: u64) {
        self.note(now, at.0 + u64::from(bytes), value);
    }
    fn port_in(&mut self, _: &Ram, now: u64, port: u16, bytes: u8) -> u32 {
        self.note(now, port.into(), bytes.into());
        u32::from(port).wrapping_mul(0x0101_0101)
    }
    /// Port 0x500: writes the value to code. Port 0x501: an interrupt.
    fn port_out(&mut self, ram: &Ram, now: u64, port: u16, bytes: u8, value: u32) {
        self.note(now, u64::from(port) + u64::from(bytes), value.into());
        match port {
            0x500 => {
                let place = u64::from(value >> 8) % (CODE_PAGES * PAGE_BYTES - 4);
                ram.write(Physical(CODE + place), &value.to_le_bytes()[..2])
                    .expect("it is RAM");
            }
            0x501 => self.interrupt = Some(0x20 + value.to_le_bytes()[0] % 16),
            _ => {}
        }
    }
    fn msr_read(&mut self, _: u64, _: u32) -> Result<u64, Refused> {
        Err(Refused)
    }
    fn msr_write(&mut self, _: u64, _: u32, _: u64) -> Result<(), Refused> {
        Err(Refused)
    }
    fn tsc(&mut self, now: u64) -> u64 {
        TSC_BASE + ((now * TSC_RATE) >> 32)
    }
    fn tsc_line(&self, until: u64) -> Option<TscLine> {
        // Now and then there is none.
        (!until.is_multiple_of(4)).then_some(TscLine {
            base_branches: 0,
            base: TSC_BASE,
            rate: TSC_RATE,
        })
    }
    fn task_priority(&self) -> u8 {
        self.priority
    }
    fn set_task_priority(&mut self, priority: u8) {
        self.priority = priority;
    }
    fn interrupt_waits(&self) -> bool {
        self.interrupt.is_some()
    }
    fn acknowledge(&mut self, _: u64) -> Option<u8> {
        self.interrupt.take()
    }
    fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }
    fn needs_attention(&self) -> bool {
        false
    }
}

/// The time-stamp counter at the start, and ticks a branch, 32.32 bits.
const TSC_BASE: u64 = 0x1234_5678_9abc;
const TSC_RATE: u64 = 7 << 30;

/// A machine of one engine.
struct Machine {
    cpu: Cpu,
    board: Board,
}

impl Machine {
    fn new(program: &Program, model: cpu::Model) -> Machine {
        let ram = Ram::new(RAM_BYTES).expect("a small mapping");
        ram.write(Physical(CODE), &program.code).expect("it is RAM");
        for (n, &entry) in (0u64..).zip(&program.entries) {
            ram.store(Physical(ENTRIES + 8 * n), entry);
        }
        let mut cpu = kernel::boot(ram);
        cpu.model = model;
        Machine {
            cpu,
            board: Board::default(),
        }
    }

    fn run(&mut self, engine: &mut dyn Engine, until: Until) -> Exit {
        engine.run(&mut self.cpu, &mut self.board, until)
    }

    fn memory(&self) -> Vec<u8> {
        let mut all = vec![0; RAM_BYTES as usize];
        self.cpu.ram.read(Physical(0), &mut all).expect("it is RAM");
        all
    }
}

/// Branches between two stops at most.
const BRANCHES_MAX: u64 = 300;
/// Stops of a program.
const STOPS: usize = 40;

/// What came of programs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) programs: u64,
    pub(crate) stops: u64,
    pub(crate) branches: u64,
    /// Programs that ended in a triple fault.
    pub(crate) shutdowns: u64,
}

/// Runs random programs on both engines.
pub(crate) struct Duel {
    jit: Jit,
    pool: Pool,
    pub(crate) tally: Tally,
}

impl Duel {
    pub(crate) fn new(seed: u64) -> Duel {
        Duel::of(Jit::eager().expect("memory for code"), seed)
    }

    pub(crate) fn of(jit: Jit, seed: u64) -> Duel {
        Duel {
            jit,
            pool: Pool::new(seed),
            tally: Tally::default(),
        }
    }

    /// Whether any program was so far shown memory in windows.
    #[allow(dead_code, reason = "not everyone asks")]
    pub(crate) fn has_had_windows(&self) -> bool {
        let counts = self.jit.counts();
        let shown = counts.iter().find(|count| count.what.contains("windows"));
        shown.is_some_and(|shown| shown.count > 0)
    }

    /// Runs the program of `seed`, and tells of the first difference.
    pub(crate) fn run(&mut self, seed: u64) -> Result<(), String> {
        let mut random = Random::new(mix(seed));
        let program = Program::new(&mut random, &self.pool);
        let model = random.pick(&[cpu::Model::V2, cpu::Model::V3]);
        let mut both = Both {
            judge: Machine::new(&program, model),
            subject: Machine::new(&program, model),
            interpreter: Interpreter::new(),
            jit: &mut self.jit,
            agreed: Moment::default(),
        };
        both.jit.reset();
        let start = random.pick(&program.entries);
        both.judge.cpu.rip = start;
        both.subject.cpu.rip = start;
        for stop in 0..STOPS {
            let exit = both
                .stop(&mut random, &program)
                .map_err(|why| format!("program {seed:#x}, stop {stop}: {why}"))?;
            self.tally.stops += 1;
            if exit == Exit::Shutdown {
                self.tally.shutdowns += 1;
                break;
            }
        }
        both.compare_memory()
            .map_err(|why| format!("program {seed:#x}, at its end: {why}"))?;
        self.tally.programs += 1;
        self.tally.branches += both.judge.cpu.branches;
        Ok(())
    }
}

/// Both machines in one program.
struct Both<'a> {
    judge: Machine,
    subject: Machine,
    interpreter: Interpreter,
    jit: &'a mut Jit,
    /// The last moment at which they agreed.
    agreed: Moment,
}

impl Both<'_> {
    /// Does something to both machines, runs them for a while, and compares.
    fn stop(&mut self, random: &mut Random, program: &Program) -> Result<Exit, String> {
        self.agreed = self.judge.cpu.moment();
        self.disturb(random, program);
        let branches = self.judge.cpu.branches + 1 + random.below(BRANCHES_MAX);
        let exits = match random.below(4) {
            0 => self.meet(random, branches),
            1 => self.step(random),
            _ => {
                let until = if random.one_in(16) {
                    Until::Branches(self.judge.cpu.branches + 1 + random.below(3))
                } else {
                    Until::Branches(branches)
                };
                [
                    self.judge.run(&mut self.interpreter, until),
                    self.subject.run(self.jit, until),
                ]
            }
        };
        self.compare(exits)?;
        if random.one_in(8) {
            self.compare_memory()?;
        }
        Ok(exits[0])
    }

    /// An input: an interrupt, a write to memory, or what checks of a session
    /// do.
    fn disturb(&mut self, random: &mut Random, program: &Program) {
        let halted = self.judge.cpu.halted;
        let what = if halted {
            random.below(2)
        } else {
            random.below(8)
        };
        let (place, bytes) = (random.below(CODE_PAGES * PAGE_BYTES - 64), random.below(64));
        let vector = 0x20 + random.byte() % 16;
        for machine in [&mut self.judge, &mut self.subject] {
            let ram = &machine.cpu.ram;
            match what {
                0 => machine.board.nmi = true,
                1 => machine.board.interrupt = Some(vector),
                // Some of the program as it was.
                2 => {
                    let at = place as usize;
                    let code = &program.code[at..at + bytes as usize];
                    ram.write(Physical(CODE + place), code).expect("it is RAM");
                }
                3 => {
                    for page in 0..CODE_PAGES {
                        let at = page * PAGE_BYTES;
                        let code = &program.code[at as usize..][..PAGE_BYTES as usize];
                        ram.write(Physical(CODE + at), code).expect("it is RAM");
                    }
                }
                // As a digest of memory does, which lets some pages stay dirty.
                4 => {
                    let written = ram.take_dirty().into_iter();
                    let busy = written.filter(|page| page % 2 == bytes % 2);
                    busy.for_each(|page| ram.pages().set(page, flag::DIRTY));
                    machine.cpu.see_stores();
                }
                _ => {}
            }
        }
    }

    /// One engine goes somewhere by steps, the other to the same moment.
    fn meet(&mut self, random: &mut Random, branches: u64) -> [Exit; 2] {
        let steps = random.below(8);
        let far = |machine: &mut Machine, engine: &mut dyn Engine| {
            let mut exit = machine.run(engine, Until::Branches(branches));
            for _ in 0..steps {
                if exit != Exit::Reached {
                    break;
                }
                exit = machine.run(engine, Until::Step);
            }
            exit
        };
        let jit: &mut dyn Engine = self.jit;
        if random.one_in(2) {
            let exit = far(&mut self.judge, &mut self.interpreter);
            let until = Until::Moment(self.judge.cpu.moment());
            if exit != Exit::Reached {
                return [exit, far(&mut self.subject, jit)];
            }
            [exit, self.subject.run(jit, until)]
        } else {
            let exit = far(&mut self.subject, jit);
            let until = Until::Moment(self.subject.cpu.moment());
            if exit != Exit::Reached {
                return [far(&mut self.judge, &mut self.interpreter), exit];
            }
            [self.judge.run(&mut self.interpreter, until), exit]
        }
    }

    fn step(&mut self, random: &mut Random) -> [Exit; 2] {
        let mut exits = [Exit::Reached; 2];
        for _ in 0..1 + random.below(12) {
            exits = [
                self.judge.run(&mut self.interpreter, Until::Step),
                self.subject.run(self.jit, Until::Step),
            ];
            if exits != [Exit::Reached; 2] {
                break;
            }
        }
        exits
    }

    fn compare(&mut self, exits: [Exit; 2]) -> Result<(), String> {
        let (judge, subject) = (&self.judge.cpu, &self.subject.cpu);
        let registers = Registers::of(judge).differences(&Registers::of(subject));
        let same = exits[0] == exits[1]
            && registers.is_empty()
            && judge.moment() == subject.moment()
            && judge.halted == subject.halted
            && self.judge.board == self.subject.board;
        if same {
            return Ok(());
        }
        let mut why = format!(
            "they agreed at {}; expected {:?} at {}, found {:?} at {}",
            self.agreed,
            exits[0],
            judge.moment(),
            exits[1],
            subject.moment()
        );
        for difference in &registers {
            write!(why, "; {difference}").expect("a string takes all");
        }
        if self.judge.board != self.subject.board {
            why.push_str("; the boards differ");
        }
        if let Err(pages) = self.compare_memory() {
            write!(why, "; {pages}").expect("a string takes all");
        }
        why.push_str(&self.code());
        Err(why)
    }

    fn compare_memory(&self) -> Result<(), String> {
        let (expected, found) = (self.judge.memory(), self.subject.memory());
        if expected == found {
            return Ok(());
        }
        let words = expected.chunks_exact(8).zip(found.chunks_exact(8));
        let mut why = String::from("memory differs:");
        for (n, (expected, found)) in words.enumerate().filter(|(_, (a, b))| a != b).take(8) {
            write!(
                why,
                " {:#x}: expected {expected:x?}, found {found:x?};",
                8 * n
            )
            .expect("a string takes all");
        }
        Err(why)
    }

    /// The code at the last moment at which they agreed.
    fn code(&mut self) -> String {
        let cpu = &mut self.judge.cpu;
        let at = self.agreed.pc;
        let bits = if cpu.code_size == CodeSize::Bits64 {
            64
        } else {
            32
        };
        let mut bytes = [0; 64];
        match cpu.fetch_address(Linear(at)) {
            Ok(Some(place)) if cpu.ram.read(place, &mut bytes).is_ok() => {
                format!(
                    "\n  code where they agreed:{}",
                    code::text(&bytes, at, bits)
                )
            }
            _ => String::new(),
        }
    }
}

/// Runs code written by hand, pieces of it and where they lie, from
/// [`kernel::CODE`] on until it halts, on both engines; what they agree on.
#[allow(dead_code, reason = "for tests, not for the soak")]
pub(crate) fn by_hand(pieces: &[(u64, &[u8])]) -> Registers {
    let mut code = vec![0xcc; (CODE_PAGES * PAGE_BYTES) as usize];
    for &(at, bytes) in pieces {
        code[(at - CODE) as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    let entries = vec![CODE; 64];
    let program = Program { code, entries };
    let model = cpu::Model::V2;
    let mut both = Both {
        judge: Machine::new(&program, model),
        subject: Machine::new(&program, model),
        interpreter: Interpreter::new(),
        jit: &mut Jit::eager().expect("memory for code"),
        agreed: Moment::default(),
    };
    both.judge.cpu.rip = CODE;
    both.subject.cpu.rip = CODE;
    let until = Until::Branches(10_000);
    let exits = [
        both.judge.run(&mut both.interpreter, until),
        both.subject.run(both.jit, until),
    ];
    both.compare(exits)
        .and_then(|()| both.compare_memory())
        .unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(exits[0], Exit::Halted, "{}", both.judge.cpu.moment());
    Registers::of(&both.judge.cpu)
}

/// Finds, for a program that differs, where: runs it again, a branch at a time.
/// Where that makes the difference go away there is nothing more to tell.
pub(crate) fn locate(duel: &mut Duel, seed: u64) -> String {
    let mut random = Random::new(mix(seed));
    let program = Program::new(&mut random, &duel.pool);
    let model = random.pick(&[cpu::Model::V2, cpu::Model::V3]);
    let mut both = Both {
        judge: Machine::new(&program, model),
        subject: Machine::new(&program, model),
        interpreter: Interpreter::new(),
        jit: &mut duel.jit,
        agreed: Moment::default(),
    };
    both.jit.reset();
    let start = random.pick(&program.entries);
    both.judge.cpu.rip = start;
    both.subject.cpu.rip = start;
    for _ in 0..STOPS as u64 * BRANCHES_MAX {
        both.agreed = both.judge.cpu.moment();
        let until = Until::Branches(both.agreed.branches + 1);
        let exits = [
            both.judge.run(&mut both.interpreter, until),
            both.subject.run(both.jit, until),
        ];
        if let Err(why) = both.compare(exits).and_then(|()| both.compare_memory()) {
            return format!("a branch at a time: {why}");
        }
        if exits[0] != Exit::Reached {
            break;
        }
    }
    "a branch at a time they agree".to_owned()
}
