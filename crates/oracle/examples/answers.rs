//! Asks the host's processor what comes of the cases in some `.ins` files, and prints each with the
//! `then` lines that would expect it: `cargo run -p oracle --example answers -- tests/insn/alu.ins`.
//! Lines are for a person to compare with the manual, not to be believed.

use oracle::case::Subject;
use oracle::ins;
use oracle::silicon::Silicon;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut silicon = Silicon::start()?;
    for path in std::env::args().skip(1) {
        for readable in ins::parse(&path, &std::fs::read_to_string(&path)?)? {
            let outcome = silicon.run(&readable.case);
            println!("case {}", readable.case.name);
            println!("  # {}", readable.case.disassembly());
            print!("{}", ins::then_lines(&readable.case, &outcome));
        }
    }
    Ok(())
}
