//! The interpreter and the translator side by side on the oracle's cases, each
//! instruction in the middle of a block that is run several times, with flags
//! that live before and after it.

use cpu::{Engine, Exit, Interpreter, Registers, Until};
use jit::Jit;
use oracle::case::{CODE_BYTES_MAX, Case};
use oracle::random::{Random, mix};

use crate::subject::{NoBoard, Processor, Way};

/// What may come before the instruction. The code leaves the guest's flags
/// where a translator may have them: in the host's, in part, or saved.
const BEFORE: [&[u8]; 16] = [
    &[],
    // cmp $0x12345678, %eax
    &[0x3d, 0x78, 0x56, 0x34, 0x12],
    // test %rdx, %r9
    &[0x49, 0x85, 0xd1],
    // cmp %r10, %r9
    &[0x4d, 0x39, 0xd1],
    // shl $3, %r14
    &[0x49, 0xc1, 0xe6, 0x03],
    // sar %cl, %r13d
    &[0x41, 0xd3, 0xfd],
    // imul $7, %r15d, %r15d
    &[0x45, 0x6b, 0xff, 0x07],
    // push %rax; pop %rax
    &[0x50, 0x58],
    // inc %r12
    &[0x49, 0xff, 0xc4],
    // stc
    &[0xf9],
    // cmc
    &[0xf5],
    // movaps %xmm15, %xmm14
    &[0x45, 0x0f, 0x28, 0xf7],
    // vaddps %ymm15, %ymm14, %ymm13
    &[0xc4, 0x41, 0x0c, 0x58, 0xef],
    // blsr %r14, %r13
    &[0xc4, 0xc2, 0x90, 0xf3, 0xce],
    // sahf
    &[0x9e],
    // rcr $1, %r11
    &[0x49, 0xd1, 0xdb],
];

/// What may come after it, and sees its flags, or doesn't.
const AFTER: [&[u8]; 18] = [
    &[],
    // pushfq; pop %r14
    &[0x9c, 0x41, 0x5e],
    // setl %r15b
    &[0x41, 0x0f, 0x9c, 0xc7],
    // cmovbe %r13, %r14
    &[0x4d, 0x0f, 0x46, 0xf5],
    // adc %r15, %r14
    &[0x4d, 0x11, 0xfe],
    // jp over inc %r12
    &[0x7a, 0x03, 0x49, 0xff, 0xc4],
    // jo over inc %r12
    &[0x70, 0x03, 0x49, 0xff, 0xc4],
    // inc %r13; setc %r15b
    &[0x49, 0xff, 0xc5, 0x41, 0x0f, 0x92, 0xc7],
    // rcl $1, %r15
    &[0x49, 0xd1, 0xd7],
    // lahf
    &[0x9f],
    // cmp %r10, %r9
    &[0x4d, 0x39, 0xd1],
    // mov %rax, -8(%rsp)
    &[0x48, 0x89, 0x44, 0x24, 0xf8],
    // sar %cl, %r14
    &[0x49, 0xd3, 0xfe],
    // bsf %r14, %r15
    &[0x4d, 0x0f, 0xbc, 0xfe],
    // stmxcsr -16(%rsp)
    &[0x0f, 0xae, 0x5c, 0x24, 0xf0],
    // addps %xmm14, %xmm13
    &[0x45, 0x0f, 0x58, 0xee],
    // vpor %ymm13, %ymm14, %ymm15
    &[0xc4, 0x41, 0x0d, 0xeb, 0xfd],
    // tzcnt %r14, %r15
    &[0xf3, 0x4d, 0x0f, 0xbc, 0xfe],
];

/// Puts the case's instruction in the middle of a loop. `None` if there is no
/// room for it.
pub(crate) fn surround(case: &Case, seed: u64) -> Option<Case> {
    let mut random = Random::new(mix(seed));
    let before = [random.pick(&BEFORE), random.pick(&BEFORE)].concat();
    let after = [random.pick(&AFTER), random.pick(&AFTER)].concat();
    let mut code = [before.as_slice(), &case.code, &after].concat();
    // jmp to the start
    let distance = i32::try_from(code.len() + 5).expect("a few bytes");
    code.push(0xe9);
    code.extend((-distance).to_le_bytes());
    if code.len() > CODE_BYTES_MAX {
        return None;
    }
    let mut case = case.clone();
    case.name = format!("{} surrounded={seed}", case.name);
    case.state.rip -= before.len() as u64;
    case.code = code;
    Some(case)
}

/// The two engines.
pub(crate) struct Pair {
    judge: Processor<Interpreter>,
    subject: Processor<Jit>,
}

/// Branches run at a time, and how often.
const BRANCHES_MAX: u64 = 5;
const ROUNDS: usize = 4;

impl Pair {
    pub(crate) fn new() -> Pair {
        let engine = Jit::eager().expect("memory for code");
        Pair {
            judge: Processor::new("interpreter", Interpreter::new(), Way::Free),
            subject: Processor::new("translator", engine, Way::Free),
        }
    }

    /// Runs `case` on both, and tells of the first difference.
    pub(crate) fn run(&mut self, case: &Case, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        self.judge.load(case);
        self.subject.load(case);
        let mut found = Ok(());
        for round in 0..ROUNDS {
            let until = self.judge.cpu.branches + 1 + random.below(BRANCHES_MAX);
            let exits = [run(&mut self.judge, until), run(&mut self.subject, until)];
            found = self.compare(exits);
            if let Err(why) = &found {
                found = Err(format!(
                    "{}\n  {}\n  in round {round}: {why}",
                    case.name,
                    case.disassembly()
                ));
                break;
            }
            if exits[0] != Exit::Reached {
                break;
            }
        }
        let changes = [self.judge.changes(case), self.subject.changes(case)];
        if found.is_ok() && changes[0] != changes[1] {
            found = Err(format!(
                "{}\n  {}\n  memory: expected {:x?}, found {:x?}",
                case.name,
                case.disassembly(),
                changes[0],
                changes[1]
            ));
        }
        found
    }

    fn compare(&self, exits: [Exit; 2]) -> Result<(), String> {
        let (judge, subject) = (&self.judge.cpu, &self.subject.cpu);
        if exits[0] != exits[1] {
            return Err(format!("expected {:?}, found {:?}", exits[0], exits[1]));
        }
        if judge.moment() != subject.moment() {
            return Err(format!(
                "expected {}, found {}",
                judge.moment(),
                subject.moment()
            ));
        }
        let differences = Registers::of(judge).differences(&Registers::of(subject));
        if differences.is_empty() {
            return Ok(());
        }
        Err(differences
            .iter()
            .map(|difference| format!("{difference}; "))
            .collect())
    }
}

fn run<E: Engine>(processor: &mut Processor<E>, until: u64) -> Exit {
    let until = Until::Branches(until);
    processor
        .engine
        .run(&mut processor.cpu, &mut NoBoard, until)
}
