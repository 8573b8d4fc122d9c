//! A host that limits the length of files. Alone in its program: the limit is the
//! process's.

use memory::Ram;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use x86::Physical;

#[test]
fn memory_needs_no_file_where_files_are_limited() {
    // The test's own output may go to a file.
    const LONGEST: u64 = 512 << 20;
    let limit = Rlimit {
        current: Some(LONGEST),
        ..getrlimit(Resource::Fsize)
    };
    setrlimit(Resource::Fsize, limit).expect("a limit can be lowered");
    let ram = Ram::new(2 * LONGEST).expect("memory");
    assert!(ram.file().is_none());
    ram.store(Physical(0x5000), 7u64);
    assert_eq!(ram.load::<u64>(Physical(0x5000)), 7);
    assert!(ram.resident().iter().all(|&resident| resident));
}
