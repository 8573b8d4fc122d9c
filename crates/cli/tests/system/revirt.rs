//! Running the command, within a time.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No run of a bare-metal kernel takes longer, even in a debug build.
const LIMIT: Duration = Duration::from_secs(120);

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
}

impl Ran {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The report of `--json`: on standard output, or the last line of
    /// standard error.
    pub(crate) fn json(&self) -> Value {
        let whole = serde_json::from_slice(&self.stdout);
        let last = self.stderr.lines().last().unwrap_or_default();
        whole
            .or_else(|_| serde_json::from_str(last))
            .unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Fails unless the exit code is `code`, and there was no panic.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Ran {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.code, Some(code), "{}\n{}", self.stderr, self.text());
        self
    }
}

/// The command, running.
pub(crate) struct Running {
    child: Child,
    pieces: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    stderr: JoinHandle<String>,
    began: Instant,
    limit: Duration,
}

impl Running {
    /// Starts it, in a shell's hands if `shell` says so.
    pub(crate) fn start(command: &mut Command) -> Running {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command can be run");
        let mut stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Running {
            child,
            pieces,
            seen: Vec::new(),
            stderr,
            began: Instant::now(),
            limit: LIMIT,
        }
    }

    /// Lets it take longer.
    pub(crate) fn within(mut self, limit: Duration) -> Running {
        self.limit = limit;
        self
    }

    /// Types `bytes`. The pipe stays open.
    pub(crate) fn type_in(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin
            .write_all(bytes)
            .and_then(|()| stdin.flush())
            .expect("the command reads its input");
    }

    /// Types `bytes` from a thread of its own, and closes the pipe.
    pub(crate) fn type_all(&mut self, bytes: Vec<u8>) {
        let mut stdin = self.child.stdin.take().expect("it is piped");
        // The guest may end before it has read everything.
        std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    }

    /// From here on it may write no file longer than 32 KiB, which stands in for
    /// a host's disk that fills up. Not from its start: the guest's memory is a
    /// file, too, as the limit sees it.
    pub(crate) fn fill_disk(&self) {
        let process = self.child.id().to_string();
        let mut limit = Command::new("prlimit");
        limit.args(["--fsize=32768", "--pid", &process]);
        let limited = limit
            .status()
            .expect("prlimit is there: apt-get install util-linux");
        assert!(limited.success());
    }

    /// Waits until it has printed `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            let left = self.limit.saturating_sub(self.began.elapsed());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.seen.extend(piece),
                Err(_) => {
                    let _ = self.child.kill();
                    panic!("no `{text}` in: {}", String::from_utf8_lossy(&self.seen));
                }
            }
        }
    }

    /// Waits until it prints `text` from now on, and forgets all before.
    pub(crate) fn wait_for_another(&mut self, text: &str) {
        let before = std::mem::take(&mut self.seen);
        self.wait_for(text);
        self.seen.splice(..0, before);
    }

    /// Sends it a signal, by `kill`'s name for it.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(status.expect("kill can be run").success());
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            if self.began.elapsed() > self.limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                self.seen.extend(self.pieces.iter().flatten());
                let stderr = self.stderr.join().unwrap_or_default();
                panic!(
                    "it takes too long; it said: {}{stderr}",
                    String::from_utf8_lossy(&self.seen)
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = self.began.elapsed();
        self.seen.extend(self.pieces.iter().flatten());
        let stderr = self.stderr.join().expect("it only reads");
        Ran {
            stdout: self.seen,
            stderr,
            code: status.code(),
            took,
        }
    }
}

/// The command with `arguments`.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revirt"));
    command
        .args(arguments)
        .env("REVIRT_GUESTS", guests().folder());
    command
}

/// The command, which gets an error, and no signal, where a file is longer than
/// `limit` (as `ulimit -f` takes it).
pub(crate) fn command_on_a_full_disk<S: AsRef<OsStr>>(arguments: &[S], limit: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script]);
    started_by(shell, &command(arguments))
}

/// `starter`, which starts `command` as its last arguments tell it.
pub(crate) fn started_by(mut starter: Command, command: &Command) -> Command {
    let variables = command.get_envs();
    starter
        .arg(command.get_program())
        .args(command.get_args())
        .envs(variables.filter_map(|(name, value)| Some((name, value?))));
    starter
}

/// Runs the command with nothing to read.
pub(crate) fn revirt<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    let mut running = Running::start(&mut command(arguments));
    running.type_all(Vec::new());
    running.end()
}

/// Runs the command and types `input`.
pub(crate) fn revirt_typing<S: AsRef<OsStr>>(arguments: &[S], input: &[u8]) -> Ran {
    let mut running = Running::start(&mut command(arguments));
    running.type_all(input.to_vec());
    running.end()
}

/// The tree's guests.
pub(crate) fn guests() -> guests::Guests {
    guests::Guests::of_the_tree(|_| ())
}

/// The bare-metal kernel `name`.
pub(crate) fn bare_kernel(name: &str) -> PathBuf {
    let kernels = guests().bare_kernels().expect("gcc builds the kernels");
    let named = kernels
        .into_iter()
        .find(|kernel| kernel.path.file_stem() == Some(OsStr::new(name)));
    named.expect("it is in guests/kernels").path
}

/// The options of a small machine that runs `console.c`.
pub(crate) fn console_machine() -> Vec<OsString> {
    let mut options: Vec<OsString> = ["--memory", "16M", "--debug-exit", "--kernel"]
        .map(OsString::from)
        .into();
    options.push(bare_kernel("console").into());
    options
}

/// `verb`, then `options`.
pub(crate) fn with<S: AsRef<OsStr>>(verb: &[S], options: Vec<OsString>) -> Vec<OsString> {
    verb.iter()
        .map(|word| word.as_ref().to_owned())
        .chain(options)
        .collect()
}

/// Records `console.c` in `dir`, told `input`.
pub(crate) fn record_console(dir: &Path, input: &[u8]) -> Ran {
    let verb = [
        OsStr::new("record"),
        OsStr::new("--json"),
        OsStr::new("-o"),
        dir.as_os_str(),
    ];
    revirt_typing(&with(&verb, console_machine()), input)
}

/// Replays `dir` with `options`.
pub(crate) fn replay(dir: &Path, options: &[&str]) -> Ran {
    let verb = [OsStr::new("replay"), OsStr::new("--json"), dir.as_os_str()];
    revirt(&with(&verb, options.iter().map(OsString::from).collect()))
}

/// Runs `verb` on `dir` with `options`.
pub(crate) fn on(verb: &str, dir: &Path, options: &[&str]) -> Ran {
    let verb = [OsStr::new(verb), OsStr::new("--json"), dir.as_os_str()];
    revirt(&with(&verb, options.iter().map(OsString::from).collect()))
}

/// A directory that is gone after the test, and the name of a recording in it.
pub(crate) fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("there is room for a directory");
    let dir = folder.path().join("recording");
    (folder, dir)
}
