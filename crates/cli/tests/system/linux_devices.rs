//! The source of entropy and the second serial port, as Linux uses them.

use std::fs;
use std::time::Duration;

use crate::revirt::{Running, command, on, replay, scratch};

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn entropy_is_logged_and_the_second_serial_port_goes_to_a_file() {
    let (folder, dir) = scratch();
    let program = "cat /sys/class/misc/hw_random/rng_current; echo out of ttyS1 >/dev/ttyS1; \
        dd if=/dev/hwrng bs=32 count=4 2>/dev/null | md5sum";
    let append = format!("console=ttyS0 revirt.run=\"{program}\"");
    let [file, again] = ["serial2", "serial2-again"].map(|name| folder.path().join(name));
    let text = |path: &std::path::Path| path.to_str().expect("a plain path").to_owned();
    let arguments = [
        "record",
        "--append",
        &append,
        "--serial2",
        &text(&file),
        "-o",
        &text(&dir),
    ];
    let mut running = Running::start(&mut command(&arguments)).within(Duration::from_secs(100));
    running.type_all(Vec::new());
    let recorded = running.end().expect(0);
    assert!(
        recorded.text().contains("virtio_rng.0"),
        "{}",
        recorded.text()
    );
    let found = fs::read_to_string(&file).expect("it was made");
    assert_eq!(found.replace('\r', ""), "out of ttyS1\n");
    let logged = on("log", &dir, &["--kind", "input"]).expect(0).text();
    assert!(logged.contains("entropy"), "{logged}");
    let replayed = replay(&dir, &["--serial2", &text(&again)]).expect(0);
    assert_eq!(replayed.text(), recorded.text());
    assert_eq!(fs::read_to_string(&again).expect("it was made"), found);
    let interpreted = replay(&dir, &["--engine", "interp"]).expect(0);
    assert_eq!(interpreted.text(), recorded.text());
    let refused = replay(&dir, &["--serial2", &text(&again)]).expect(2);
    assert!(
        refused.stderr.contains("name a new file"),
        "{}",
        refused.stderr
    );
}
