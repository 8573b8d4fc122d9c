//! Lockstep: two machines with the same inputs, one on the translator, one on
//! the interpreter, which judges it. They run a branch at a time and are
//! compared after each: the general registers always, all registers, memory and
//! devices now and then.

use std::fmt;

use cpu::{Difference, Until};
use moment::Moment;

use crate::{Machine, Stop};

/// All registers are compared after so many branches.
const REGISTERS_EVERY: u64 = 1 << 10;
/// Memory and devices are compared after so many branches.
const MEMORY_EVERY: u64 = 1 << 22;

/// The first difference between the two engines: a bug of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The last moment at which they agreed.
    pub agreed: Moment,
    /// Where the interpreter is now.
    pub moment: Moment,
    /// Why each stopped: the interpreter, then the translator.
    pub stops: [Stop; 2],
    /// The registers that differ: expected is what the interpreter has.
    pub registers: Vec<Difference>,
    /// The page numbers of memory that differ.
    pub pages: Vec<u64>,
    /// Whether devices differ.
    pub devices: bool,
    /// The code at the last moment at which they agreed: bytes from there to
    /// the end of the page, [`CODE_BYTES_MAX`] at most.
    pub code: Vec<u8>,
}

/// Bytes of code told at most.
const CODE_BYTES_MAX: usize = 64;

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the engines disagree at {} (they agreed at {})",
            self.moment, self.agreed
        )?;
        let [interpreter, translator] = self.stops;
        if interpreter != translator {
            write!(
                f,
                "; the interpreter stopped with {interpreter:?}, the translator with {translator:?}"
            )?;
        }
        for difference in &self.registers {
            write!(f, "; {difference}")?;
        }
        for number in &self.pages {
            write!(f, "; memory page {:#x}", number * x86::PAGE_BYTES)?;
        }
        if self.devices {
            write!(f, "; devices")?;
        }
        write!(f, "; the code where they agreed:")?;
        self.code
            .iter()
            .try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

impl std::error::Error for Disagreement {}

/// Runs `machine` and its `judge` until `until`, side by side.
pub(crate) fn run(
    machine: &mut Machine,
    judge: &mut Machine,
    until: Until,
) -> Result<Stop, Box<Disagreement>> {
    loop {
        let agreed = judge.moment();
        let next = agreed.branches + 1;
        let step = match until {
            Until::Branches(branches) => Until::Branches(branches.min(next)),
            Until::Moment(moment) if next < moment.branches => Until::Branches(next),
            Until::Moment(_) | Until::Step => until,
        };
        let stops = [judge.run_alone(step), machine.run_alone(step)];
        compare(machine, judge, agreed, stops)?;
        if step == until || stops[0] != Stop::Reached {
            return Ok(stops[0]);
        }
    }
}

fn compare(
    machine: &mut Machine,
    judge: &mut Machine,
    agreed: Moment,
    stops: [Stop; 2],
) -> Result<(), Box<Disagreement>> {
    let same = stops[0] == stops[1]
        && judge.cpu().gpr[..16] == machine.cpu().gpr[..16]
        && judge.moment() == machine.moment()
        && judge.cpu().flags.value() == machine.cpu().flags.value();
    let branches = judge.moment().branches;
    let registers = if !same || branches.is_multiple_of(REGISTERS_EVERY) {
        judge.registers().differences(&machine.registers())
    } else {
        Vec::new()
    };
    let deeply = !same || !registers.is_empty() || branches.is_multiple_of(MEMORY_EVERY);
    let (pages, devices) = if deeply {
        (
            pages(machine, judge),
            judge.digest_devices() != machine.digest_devices(),
        )
    } else {
        (Vec::new(), false)
    };
    if same && registers.is_empty() && pages.is_empty() && !devices {
        return Ok(());
    }
    Err(Box::new(Disagreement {
        agreed,
        moment: judge.moment(),
        stops,
        registers,
        pages,
        devices,
        code: code(judge, agreed),
    }))
}

/// The code at `agreed`, if it can still be read.
fn code(judge: &mut Machine, agreed: Moment) -> Vec<u8> {
    let linear = x86::Linear(agreed.pc);
    let bytes = CODE_BYTES_MAX.min((x86::PAGE_BYTES - linear.offset()) as usize);
    let mut code = vec![0; bytes];
    let found = judge.cpu_mut().fetch_address(linear);
    match found {
        Ok(Some(at)) if judge.cpu().ram.read(at, &mut code).is_ok() => code,
        _ => Vec::new(),
    }
}

/// The pages that differ.
fn pages(machine: &mut Machine, judge: &mut Machine) -> Vec<u64> {
    if judge.digest_memory() == machine.digest_memory() {
        return Vec::new();
    }
    let ranges: Vec<_> = judge.cpu().ram.ranges().collect();
    ranges
        .into_iter()
        .flat_map(|(start, bytes)| start.page_number()..(start.0 + bytes) / x86::PAGE_BYTES)
        .filter(|&number| judge.page_digest(number) != machine.page_digest(number))
        .collect()
}
