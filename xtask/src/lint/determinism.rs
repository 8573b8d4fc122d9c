//! Below `host` nothing reads a clock, a random source, a thread's progress, a pointer's value, a hash map's order or the
//! world. That a replay is exact rests on it.
//!
//! A remark `// lint: REASON` on the line, or alone on the line before, lets one line pass; it must say why it is harmless.

use super::Finding;
use super::source::{self, Line};

/// The crates that are the machine, or decide what it does.
const WATCHED: &[&str] = &[
    "cpu",
    "checkpoint",
    "devices",
    "jit",
    "log",
    "machine",
    "memory",
    "moment",
    "seal",
    "session",
    "silicon",
    "x86",
];

/// The crates that may hold `unsafe` code.
const MAY_BE_UNSAFE: &[&str] = &["host", "jit", "memory", "oracle", "silicon"];

/// A source of what differs from run to run.
struct Leak {
    /// What it looks like in code; a word must stand alone.
    patterns: &'static [&'static str],
    /// The crates below `host` that may use it all the same.
    except: &'static [&'static str],
    /// Files that may, with the crate's path; each is there for the reason beside it.
    except_files: &'static [&'static str],
    /// What to do.
    message: &'static str,
}

const LEAKS: &[Leak] = &[
    Leak {
        patterns: &["std::time", "Instant", "SystemTime", "_rdtsc", "__rdtscp"],
        except: &[],
        // When a segment is sealed is no business of the guest's, and no event says when it was.
        except_files: &[
            "crates/log/src/ring.rs",
            "crates/log/src/sealer.rs",
            "crates/log/src/writer.rs",
        ],
        message: "below `host` nothing reads a clock: take the time as an input",
    },
    Leak {
        patterns: &[
            "rand",
            "getrandom",
            "thread_rng",
            "RandomState",
            "_rdrand64_step",
            "_rdseed64_step",
        ],
        except: &[],
        except_files: &[],
        message: "below `host` nothing is random: take entropy as an input",
    },
    Leak {
        patterns: &["std::thread", "thread::spawn", "rayon", "mpsc"],
        except: &[],
        // They write files, and what they come to the guest never learns.
        except_files: &["crates/log/src/writer.rs", "crates/session/src/storing.rs"],
        message: "below `host` there are no threads but those that write a recording",
    },
    Leak {
        patterns: &["HashMap", "HashSet", "DefaultHasher"],
        except: &[],
        except_files: &[],
        message: "a hash map's order differs from run to run: use a BTreeMap, or say `// lint: lookup only` if nothing goes through it in order",
    },
    Leak {
        patterns: &[
            ".addr()",
            "expose_provenance",
            "as_ptr() as usize",
            "as_ptr() as u64",
            "as *const",
            "as *mut",
        ],
        except: &[],
        except_files: &[],
        message: "a pointer's value differs from run to run: it must not become a number (a cast that doesn't needs `// lint: REASON`)",
    },
    Leak {
        patterns: &["std::env", "env::var", "env::args", "env::current_dir"],
        except: &[],
        except_files: &[],
        message: "below `host` nothing reads the environment",
    },
    Leak {
        patterns: &["std::fs", "File::open", "File::create"],
        except: &["log", "session", "checkpoint"],
        except_files: &[],
        message: "only `log`, `session`, `checkpoint` and what stands above them touch files",
    },
    Leak {
        patterns: &[
            "std::net",
            "UdpSocket",
            "TcpStream",
            "std::process",
            "println",
            "eprintln",
            "stdin",
        ],
        except: &[],
        except_files: &[],
        message: "below `host` nothing speaks to the world",
    },
    Leak {
        patterns: &["__cpuid", "__cpuid_count", "is_x86_feature_detected"],
        except: &["silicon"],
        except_files: &[],
        message: "what the host's processor is must not be seen: ask `silicon`, which answers alike everywhere",
    },
];

/// Finds leaks and misplaced `unsafe` in the Rust source `text` at `path`.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let Some(name) = path
        .strip_prefix("crates/")
        .and_then(|rest| rest.split('/').next())
    else {
        return Vec::new();
    };
    // A build script or a test may do what it likes; what it builds may not.
    let product = path.starts_with(&format!("crates/{name}/src/"));
    let lines = source::lines(text);
    let mut findings = Vec::new();
    let mut find = |line: &Line, message: &str| {
        findings.push(Finding {
            path: path.to_owned(),
            line: line.number,
            message: message.to_owned(),
        });
    };
    for (index, line) in lines.iter().enumerate() {
        if !MAY_BE_UNSAFE.contains(&name) && source::words(&line.code).any(|word| word == "unsafe")
        {
            find(
                line,
                "only `memory`, `silicon`, `host`, `jit` and `oracle` may hold `unsafe` code",
            );
        }
        let watched = product && WATCHED.contains(&name) && !line.test;
        if !watched || is_excused(&lines, index) {
            continue;
        }
        for leak in LEAKS {
            let excepted = leak.except.contains(&name) || leak.except_files.contains(&path);
            if !excepted
                && leak
                    .patterns
                    .iter()
                    .any(|pattern| contains(&line.code, pattern))
            {
                find(line, leak.message);
            }
        }
    }
    findings
}

/// Whether the line bears a remark, or follows one.
fn is_excused(lines: &[Line], index: usize) -> bool {
    let remark = |line: &Line| {
        line.comment
            .split_once("lint: ")
            .is_some_and(|(_, reason)| reason.split_whitespace().count() >= 2)
    };
    // An import does nothing yet; the places that use the type are looked at.
    let is_import = lines[index].code.trim_start().starts_with("use ")
        && contains(&lines[index].code, "collections");
    let before = index.checked_sub(1).map(|at| &lines[at]);
    is_import
        || remark(&lines[index])
        || before.is_some_and(|line| line.code.trim().is_empty() && remark(line))
}

/// Whether `pattern` stands in `code` and is not part of a longer word.
fn contains(code: &str, pattern: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(pattern).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + pattern.len()..].chars().next();
        let open_start = pattern.starts_with(part_of_word) && before.is_some_and(part_of_word);
        let open_end = pattern.ends_with(part_of_word) && after.is_some_and(part_of_word);
        !open_start && !open_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "crates/machine/src/board.rs";

    fn count(text: &str) -> usize {
        check(FILE, text).len()
    }

    #[test]
    fn each_leak_is_found() {
        for leak in LEAKS {
            for pattern in leak.patterns {
                let text = format!("let x = {pattern};\n");
                assert_eq!(count(&text), 1, "{text}");
            }
        }
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert_eq!(count("let operand = InstantFood::HashMapper;"), 0);
    }

    #[test]
    fn comments_and_strings_leak_nothing() {
        assert_eq!(count("// std::time\nlet x = \"Instant\";"), 0);
    }

    #[test]
    fn tests_may_do_what_they_like() {
        assert_eq!(
            count("#[cfg(test)]\nmod tests {\n use std::time::Instant;\n}\n"),
            0
        );
        assert_eq!(
            check("crates/machine/tests/boot.rs", "use std::time::Instant;"),
            []
        );
    }

    #[test]
    fn above_the_window_the_world_is_seen() {
        assert_eq!(
            check("crates/host/src/clock.rs", "use std::time::Instant;"),
            []
        );
        assert_eq!(check("crates/cli/src/main.rs", "std::env::args()"), []);
    }

    #[test]
    fn a_remark_with_a_reason_lets_a_line_pass() {
        assert_eq!(count("map: HashMap<u32, u32>, // lint: lookup only"), 0);
        assert_eq!(count("// lint: lookup only\nmap: HashMap<u32, u32>,"), 0);
        assert_eq!(count("map: HashMap<u32, u32>, // lint: "), 1);
        assert_eq!(
            count("let a = 1; // lint: lookup only\nmap: HashMap<u32, u32>,"),
            1
        );
    }

    #[test]
    fn importing_a_map_is_no_leak_and_using_it_is() {
        assert_eq!(count("use std::collections::HashMap;"), 0);
        assert_eq!(count("let map = HashMap::new();"), 1);
    }

    #[test]
    fn the_logs_writer_may_be_a_thread() {
        assert_eq!(
            check("crates/log/src/writer.rs", "use std::thread::Builder;"),
            []
        );
        assert_eq!(
            check("crates/log/src/reader.rs", "use std::thread::Builder;").len(),
            1
        );
    }

    #[test]
    fn unsafe_code_stays_in_its_crates() {
        assert_eq!(check("crates/cpu/src/tlb.rs", "unsafe { x }").len(), 1);
        assert_eq!(
            check("crates/cpu/src/tlb.rs", "#![forbid(unsafe_code)]"),
            []
        );
        assert_eq!(check("crates/memory/src/ram.rs", "unsafe { x }"), []);
    }
}
