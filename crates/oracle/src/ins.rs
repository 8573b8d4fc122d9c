//! Readable cases: `tests/insn/*.ins`.
//!
//! A file is a list of cases; a case is a line that names it and indented lines that say what it
//! is. Everything after `# ` is a comment.
//!
//! ```text
//! case the carry of a byte addition
//!   code  00 d8                ; add %bl,%al
//!   given rax=0xff rbx=1
//!   then  rax=0 flags=CF,PF,AF,ZF
//! ```
//!
//! | line | says |
//! |---|---|
//! | `code BYTES ; TEXT` | the code, and its disassembly in AT&T syntax, which is checked |
//! | `mode 64` or `mode 32` | the mode; 64 if there is no such line |
//! | `given NAME=VALUE ...` | registers before; see [`MachineState::default`] for the others |
//! | `given [ADDRESS] BYTES` | memory before |
//! | `then NAME=VALUE ...` | registers after; the others are as before, RIP is behind the code |
//! | `then [ADDRESS] BYTES` | memory after; the rest is as before |
//! | `then #PF error=VALUE cr2=VALUE` | it ends with this exception, and RIP is at the code |
//! | `silicon REASON` | the host's processor is not asked, because |
//!
//! A name is a general register of 64 bits, `rip`, `flags`, `fs.base`, `gs.base`, `mxcsr`, `fcw`,
//! `fsw`, `ftw`, `st0` to `st7` (as `3fff:8000000000000000`), `xmm0` to `xmm15`, or `ymm0.high` to
//! `ymm15.high`, a YMM register's upper half. A value is a number, or a region's name or `start` or
//! `next` (where the code begins, and what is behind it) with `+` or `-` a number. Flags are names
//! with commas, or `none`; they are all of RFLAGS but IF.

use std::path::{Path, PathBuf};

use crate::case::{Case, Change, End, Fault, Mode, Outcome, Patch, VECTOR_NAMES};
use crate::layout::REGIONS;
use crate::state::{MachineState, flag, gpr};

/// A case from a file, with what is to come of it.
#[derive(Clone, Debug)]
pub struct Readable {
    /// What is run.
    pub case: Case,
    /// What is to come of it.
    pub expected: Outcome,
    /// Why the host's processor is not asked; `None` if it is.
    pub not_on_silicon: Option<String>,
    /// Where it stands, as `file:line`.
    pub place: String,
}

/// A line that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where, as `file:line`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

impl std::error::Error for Unreadable {}

/// The folder with the project's cases.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/insn")
}

/// All cases of all files in [`folder`], by name of file.
///
/// # Errors
/// The first line that can't be read; a folder or file that can't be is said with line 0.
pub fn load_all() -> Result<Vec<Readable>, Unreadable> {
    let unreadable = |path: &Path, error: std::io::Error| Unreadable {
        place: format!("{}:0", path.display()),
        why: error.to_string(),
    };
    let folder = folder();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|error| unreadable(&folder, error))? {
        paths.push(entry.map_err(|error| unreadable(&folder, error))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "ins"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        all.extend(parse(&name, &text)?);
    }
    Ok(all)
}

/// The cases of one file.
///
/// # Errors
/// The first line that can't be read.
pub fn parse(file: &str, text: &str) -> Result<Vec<Readable>, Unreadable> {
    let mut cases = Vec::new();
    let mut draft: Option<Draft> = None;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        let fail = |why: String| Unreadable {
            place: place.clone(),
            why,
        };
        let line = strip_comment(line).trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, &mut draft) {
            ("", _) => {}
            ("case", _) => {
                cases.extend(draft.take().map(Draft::finish).transpose()?);
                draft = Some(Draft::new(rest.trim(), place.clone()));
            }
            (_, None) => return Err(fail(format!("`{word}` stands before the first `case`"))),
            (_, Some(draft)) => draft.line(word, rest.trim()).map_err(fail)?,
        }
    }
    cases.extend(draft.map(Draft::finish).transpose()?);
    Ok(cases)
}

/// `#` and a blank begin a comment; `#PF` does not.
fn strip_comment(line: &str) -> &str {
    let comment = line.char_indices().find(|(at, c)| {
        *c == '#'
            && line[at + 1..]
                .chars()
                .next()
                .is_none_or(char::is_whitespace)
    });
    comment.map_or(line, |(at, _)| &line[..at])
}

/// A case being read. Values after are kept as text until the code's end is known.
struct Draft {
    case: Case,
    place: String,
    text: String,
    given: Vec<String>,
    then: Vec<String>,
    not_on_silicon: Option<String>,
}

impl Draft {
    fn new(name: &str, place: String) -> Self {
        let case = Case::new(name, Mode::Long, &[]);
        Self {
            case,
            place,
            text: String::new(),
            given: Vec::new(),
            then: Vec::new(),
            not_on_silicon: None,
        }
    }

    fn line(&mut self, word: &str, rest: &str) -> Result<(), String> {
        match word {
            "code" => {
                let (code, text) = rest
                    .split_once(';')
                    .ok_or("`code` needs its disassembly behind a `;`")?;
                self.case.code = bytes(code)?;
                self.text = text.trim().to_owned();
            }
            "mode" if rest == "64" => self.case.mode = Mode::Long,
            "mode" if rest == "32" => self.case.mode = Mode::Compat,
            "mode" => return Err(format!("`{rest}` is no mode: 64 or 32")),
            "given" => self.given.push(rest.to_owned()),
            "then" => self.then.push(rest.to_owned()),
            "silicon" => self.not_on_silicon = Some(rest.to_owned()),
            _ => {
                return Err(format!(
                    "`{word}` is none of case, code, mode, given, then, silicon"
                ));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Readable, Unreadable> {
        let place = self.place.clone();
        self.read().map_err(|why| Unreadable { place, why })
    }

    fn read(&mut self) -> Result<Readable, String> {
        if self.case.name.is_empty() || self.case.code.is_empty() {
            return Err("a case needs a name and a `code` line".into());
        }
        let mut before = MachineState::default();
        for line in &self.given {
            if line.starts_with('[') {
                let (address, bytes) = memory(line, &before, 0)?;
                self.case.patches.push(Patch { address, bytes });
            } else {
                registers(line, &mut before, 0)?;
            }
        }
        self.case.state = before;
        let text = self.case.disassembly();
        if text != self.text {
            return Err(format!("the code is `{text}`, not `{}`", self.text));
        }
        let expected = self.expected()?;
        Ok(Readable {
            case: self.case.clone(),
            expected,
            not_on_silicon: self.not_on_silicon.clone(),
            place: self.place.clone(),
        })
    }

    fn expected(&self) -> Result<Outcome, String> {
        let len = self.case.code.len() as u64;
        let start = self.case.state.rip;
        let mut state = self.case.state;
        let mut end = End::Left;
        let mut after: Vec<(u64, Vec<u8>)> = Vec::new();
        state.rip = start.wrapping_add(len);
        for line in &self.then {
            if line.starts_with('#') {
                end = End::Fault(fault(line, &self.case.state, len)?);
                state.rip = start;
            }
        }
        for line in self.then.iter().filter(|line| !line.starts_with('#')) {
            if line.starts_with('[') {
                after.push(memory(line, &self.case.state, len)?);
            } else {
                let mut with_start = MachineState {
                    rip: start,
                    ..state
                };
                let rip = registers(line, &mut with_start, len)?;
                state = MachineState {
                    rip: rip.unwrap_or(state.rip),
                    ..with_start
                };
            }
        }
        Ok(Outcome {
            end,
            state,
            changes: self.changes(&after),
        })
    }

    fn changes(&self, after: &[(u64, Vec<u8>)]) -> Vec<Change> {
        let mut words: Vec<u64> = after
            .iter()
            .flat_map(|(address, bytes)| {
                (0..bytes.len() as u64).map(move |i| address.wrapping_add(i) & !7)
            })
            .collect();
        words.sort_unstable();
        words.dedup();
        let byte = |address: u64| {
            after
                .iter()
                .rev()
                .find_map(|(start, bytes)| {
                    bytes
                        .get(usize::try_from(address.wrapping_sub(*start)).ok()?)
                        .copied()
                })
                .unwrap_or_else(|| self.case.byte_before(address))
        };
        words
            .into_iter()
            .map(|address| Change {
                address,
                value: u64::from_le_bytes(std::array::from_fn(|i| byte(address + i as u64))),
            })
            .collect()
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    text.split_whitespace()
        .map(|byte| match (byte.len(), u8::from_str_radix(byte, 16)) {
            (2, Ok(value)) => Ok(value),
            _ => Err(format!("`{byte}` is no byte of two hexadecimal digits")),
        })
        .collect()
}

/// `[ADDRESS] BYTES`.
fn memory(line: &str, state: &MachineState, len: u64) -> Result<(u64, Vec<u8>), String> {
    let (address, rest) = line[1..]
        .split_once(']')
        .ok_or("memory is `[ADDRESS] BYTES`")?;
    Ok((value(address.trim(), state, len)?, bytes(rest)?))
}

/// `#NAME error=VALUE cr2=VALUE`.
fn fault(line: &str, state: &MachineState, len: u64) -> Result<Fault, String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let vector = VECTOR_NAMES
        .iter()
        .position(|known| *known == name)
        .ok_or(format!("`{name}` is no exception"))?;
    let mut fault = Fault {
        vector: u8::try_from(vector).map_err(|e| e.to_string())?,
        error: 0,
        address: None,
    };
    for word in words {
        match word.split_once('=') {
            Some(("error", text)) => fault.error = value(text, state, len)? as u32,
            Some(("cr2", text)) => fault.address = Some(value(text, state, len)?),
            _ => return Err(format!("`{word}` is neither error=VALUE nor cr2=VALUE")),
        }
    }
    Ok(fault)
}

/// `NAME=VALUE ...` into `state`; returns RIP if it was named. `len` is the code's, for `next`.
fn registers(line: &str, state: &mut MachineState, len: u64) -> Result<Option<u64>, String> {
    let mut rip = None;
    let before = *state;
    for word in line.split_whitespace() {
        let (name, text) = word
            .split_once('=')
            .ok_or(format!("`{word}` is not NAME=VALUE"))?;
        if let Some(i) = gpr::NAMES.iter().position(|known| *known == name) {
            state.gpr[i] = value(text, &before, len)?;
        } else if let Some(i) = indexed(name, "xmm", 16) {
            state.fx.set_xmm(i, wide(text)?);
        } else if let Some(i) = name
            .strip_suffix(".high")
            .and_then(|name| indexed(name, "ymm", 16))
        {
            state.ymm_high[i] = wide(text)?;
        } else if let Some(i) = indexed(name, "st", 8) {
            state.fx.set_st(i, extended(text)?);
        } else {
            let number = |text| value(text, &before, len);
            match name {
                "rip" => {
                    state.rip = number(text)?;
                    rip = Some(state.rip);
                }
                "flags" => state.rflags = flags(text)?,
                "fs.base" => state.fs_base = number(text)?,
                "gs.base" => state.gs_base = number(text)?,
                "mxcsr" => state.fx.set_mxcsr(number(text)? as u32),
                "fcw" => state.fx.set_fcw(number(text)? as u16),
                "fsw" => state.fx.set_fsw(number(text)? as u16),
                "ftw" => state.fx.set_ftw(number(text)? as u8),
                _ => return Err(format!("`{name}` is no register")),
            }
        }
    }
    Ok(rip)
}

fn wide(text: &str) -> Result<u128, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u128::from_str_radix(digits, 16).map_err(|_| format!("`{text}` is not 128 bits in hexadecimal"))
}

fn indexed(name: &str, prefix: &str, count: usize) -> Option<usize> {
    name.strip_prefix(prefix)?
        .parse()
        .ok()
        .filter(|i| *i < count)
}

fn extended(text: &str) -> Result<[u8; 10], String> {
    let wrong = || format!("`{text}` is not sign and exponent, colon, significand, in hexadecimal");
    let (exponent, significand) = text.split_once(':').ok_or_else(wrong)?;
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(
        &u64::from_str_radix(significand, 16)
            .map_err(|_| wrong())?
            .to_le_bytes(),
    );
    bytes[8..].copy_from_slice(
        &u16::from_str_radix(exponent, 16)
            .map_err(|_| wrong())?
            .to_le_bytes(),
    );
    Ok(bytes)
}

fn flags(text: &str) -> Result<u64, String> {
    let mut value = flag::IF | 2;
    for name in text.split(',').filter(|name| *name != "none") {
        let known = flag::NAMES.iter().find(|(known, _)| *known == name);
        value |= known.ok_or(format!("`{name}` is no flag"))?.1;
    }
    Ok(value)
}

/// A number, or a place with `+` or `-` a number.
fn value(text: &str, state: &MachineState, len: u64) -> Result<u64, String> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    let at = text.find(['+', '-']).unwrap_or(text.len());
    let (name, offset) = text.split_at(at);
    let base = match name {
        "start" => state.rip,
        "next" => state.rip.wrapping_add(len),
        _ => REGIONS
            .iter()
            .find(|region| region.name == name)
            .map(|region| region.start)
            .ok_or(format!("`{text}` is no value"))?,
    };
    match offset.split_at_checked(1) {
        None => Ok(base),
        Some((sign, digits)) => {
            let offset = number(digits).ok_or(format!("`{digits}` is no number"))?;
            Ok(if sign == "+" {
                base.wrapping_add(offset)
            } else {
                base.wrapping_sub(offset)
            })
        }
    }
}

fn number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    if text.starts_with('-') {
        text.parse::<i64>().ok().map(i64::cast_unsigned)
    } else {
        text.parse().ok()
    }
}

/// An address as `.ins` files name it: from the code's start or behind it, or from a region's.
fn place_name(case: &Case, address: u64) -> String {
    let with = |name: &str, offset: u64| {
        if offset == 0 {
            name.to_owned()
        } else {
            format!("{name}+{offset:#x}")
        }
    };
    if address == case.code_end() {
        return "next".into();
    }
    let near_code = address.wrapping_sub(case.state.rip) < 0x80;
    let region = REGIONS
        .iter()
        .find(|region| (region.start..=region.end()).contains(&address));
    match region {
        _ if near_code => with("start", address - case.state.rip),
        Some(region) => with(region.name, address - region.start),
        None if address < 10 => address.to_string(),
        None => format!("{address:#x}"),
    }
}

/// What came of a case, as the `then` lines that would expect it.
pub fn then_lines(case: &Case, outcome: &Outcome) -> String {
    let mut lines = Vec::new();
    let mut rip = case.code_end();
    match outcome.end {
        End::Left => {}
        End::Fault(fault) => {
            rip = case.state.rip;
            let mut line = Fault {
                address: None,
                ..fault
            }
            .to_string();
            if let Some(address) = fault.address {
                line.push_str(&format!(" cr2={}", place_name(case, address)));
            }
            lines.push(line);
        }
        end => lines.push(format!("({end})")),
    }
    let (before, after) = (&case.state, &outcome.state);
    let mut words = Vec::new();
    for (i, name) in gpr::NAMES
        .iter()
        .enumerate()
        .filter(|(i, _)| before.gpr[*i] != after.gpr[*i])
    {
        words.push(format!("{name}={}", place_name(case, after.gpr[i])));
    }
    for (name, was, is) in [
        ("rip", rip, after.rip),
        ("fs.base", before.fs_base, after.fs_base),
        ("gs.base", before.gs_base, after.gs_base),
    ] {
        if was != is {
            words.push(format!("{name}={}", place_name(case, is)));
        }
    }
    if (before.rflags ^ after.rflags) & !flag::RF != 0 {
        words.push(format!(
            "flags={}",
            crate::compare::flags_text(after.rflags & !flag::RF)
        ));
    }
    let changed = crate::compare::fx_changes(&before.fx, &after.fx);
    words.extend(
        changed
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    let changed = crate::compare::ymm_changes(&before.ymm_high, &after.ymm_high);
    words.extend(
        changed
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    if !words.is_empty() {
        lines.push(words.join(" "));
    }
    for change in &outcome.changes {
        let is_new = |i: &usize| {
            change.value.to_le_bytes()[*i] != case.byte_before(change.address + *i as u64)
        };
        let (Some(first), Some(last)) = ((0..8).find(is_new), (0..8).rfind(is_new)) else {
            continue;
        };
        let bytes = change.value.to_le_bytes();
        let bytes: Vec<String> = bytes[first..=last]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        lines.push(format!(
            "[{}] {}",
            place_name(case, change.address + first as u64),
            bytes.join(" ")
        ));
    }
    lines
        .iter()
        .map(|line| format!("  then  {line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# A comment.
case a store   # with a comment
  code  88 07   ; mov %al,(%rdi)
  given rax=0x41 rdi=data+0x10 flags=CF
  given [data+0x10] 00 11
  then  [data+0x10] 41
case a load that faults
  code  8a 07   ; mov (%rdi),%al
  given rdi=data-1
  then  #PF error=4 cr2=data-1
";

    #[test]
    fn a_file_is_read() {
        let cases = parse("good.ins", GOOD).expect("the text is right");
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].expected.changes.len(), 1);
        assert_eq!(cases[0].expected.changes[0].value & 0xffff, 0x1141);
        assert_eq!(cases[0].expected.state.rip, cases[0].case.state.rip + 2);
        let address = Some(crate::layout::DATA - 1);
        assert_eq!(
            cases[1].expected.end,
            End::Fault(Fault {
                vector: 14,
                error: 4,
                address
            })
        );
        assert_eq!(cases[1].place, "good.ins:7");
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        let why = |text: &str| {
            parse("bad.ins", text)
                .map(|_| ())
                .expect_err("it is wrong")
                .to_string()
        };
        assert_eq!(
            why("\n  code 90 ; nop"),
            "bad.ins:2: `code` stands before the first `case`"
        );
        assert_eq!(
            why("case x\n  code 90 ; ret"),
            "bad.ins:1: the code is `nop`, not `ret`"
        );
        assert_eq!(
            why("case x\n  code 9 ; nop"),
            "bad.ins:2: `9` is no byte of two hexadecimal digits"
        );
        assert_eq!(
            why("case x\n  code 90 ; nop\n  frob"),
            "bad.ins:3: `frob` is none of case, code, mode, given, then, silicon"
        );
        assert_eq!(
            why("case x\n  code 90 ; nop\n  given eax=1"),
            "bad.ins:1: `eax` is no register"
        );
        assert_eq!(
            why("case x\n  code 90 ; nop\n  given rax=dota"),
            "bad.ins:1: `dota` is no value"
        );
        assert_eq!(
            why("case x\n  code 90 ; nop\n  then #XX"),
            "bad.ins:1: `#XX` is no exception"
        );
    }
}
