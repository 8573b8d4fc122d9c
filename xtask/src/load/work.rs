//! What the guest does besides: it compiles and writes files by itself, and somebody logs in again and again.

use crate::recorded::Place;
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};

/// Between two logins.
const PAUSE: Duration = Duration::from_secs(3);

/// A round: a program is compiled, and what it writes is what `seq` does; then a file of random bytes is written, and read
/// again past the page cache. It ends at the first thing that is wrong.
const ROUND: &str = r#"set -e
mkdir -p /var/tmp/work
cd /var/tmp/work
cat >program.c <<'END'
#include <stdio.h>
int main(void) { for (int i = 1; i <= 20000; i++) printf("%d\n", i); return 0; }
END
while :; do
    gcc -O2 -o program program.c
    ./program >numbers
    seq 1 20000 | cmp - numbers
    head -c 8000000 /dev/urandom | tee noise | md5sum >sum
    sync
    echo 3 >/proc/sys/vm/drop_caches
    md5sum <noise | cmp - sum
    echo >>rounds
done
"#;

/// Work under way.
pub(super) struct Work {
    logins: u32,
    last: Instant,
}

impl Work {
    pub(super) fn start(place: &Place) -> anyhow::Result<Work> {
        let script = ROUND.replace('\'', r"'\''");
        said(
            place,
            &format!("systemd-run -q --unit=work sh -c '{script}'"),
        )?;
        Ok(Work {
            logins: 0,
            last: Instant::now(),
        })
    }

    /// Logs in if it is time to.
    pub(super) fn look(&mut self, place: &Place) -> anyhow::Result<()> {
        if self.last.elapsed() < PAUSE {
            return Ok(());
        }
        self.logins += 1;
        let sum = self.logins * 3;
        let answer = said(
            place,
            &format!("systemctl is-active work; echo $(({sum} - 1))"),
        )?;
        let expected = format!("active\n{}\n", sum - 1);
        ensure!(answer == expected, "a login was answered by `{answer}`");
        self.last = Instant::now();
        Ok(())
    }

    /// Ends the guest's work. Returns how many rounds it made, and how many logins there were.
    pub(super) fn end(self, place: &Place) -> anyhow::Result<(u32, u32)> {
        let rounds = said(
            place,
            "systemctl is-active -q work && systemctl stop work && wc -l </var/tmp/work/rounds",
        )?;
        let rounds = rounds.trim().parse().context("the guest counts rounds")?;
        Ok((rounds, self.logins))
    }
}

/// What `command` prints, which must end well.
fn said(place: &Place, command: &str) -> anyhow::Result<String> {
    let output = place.ssh(command)?;
    ensure!(
        output.status.success(),
        "over SSH, a command ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
