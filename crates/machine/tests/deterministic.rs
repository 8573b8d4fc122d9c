//! How a run is cut into pieces makes no difference: not the pieces' lengths,
//! not whether a piece ends at a branch count or at a moment, not looking.

mod kernels;

use machine::{
    BootKind, EngineKind, Image, Images, Input, Machine, MachineConfig, Output, Stop, Until,
};
use moment::Moment;
use proptest::prelude::*;
use seal::Digest;

fn machine() -> Machine {
    let images = Images {
        kernel: Image::new(kernels::TICKS.to_vec()),
        initrd: None,
    };
    let config = MachineConfig {
        boot: BootKind::Multiboot,
        debug_exit: true,
        ..MachineConfig::new(8 << 20, images.kernel.digest(), 1_795_472_800)
    };
    Machine::new(&config, &images, EngineKind::Interpreter).expect("a good kernel")
}

/// Everything that can be seen of a machine.
#[derive(Debug, PartialEq)]
struct Seen {
    moment: Moment,
    now_ns: u64,
    registers: machine::Registers,
    memory: Digest,
    devices: Digest,
    output: Digest,
    output_bytes: u64,
}

fn see(machine: &mut Machine) -> Seen {
    Seen {
        moment: machine.moment(),
        now_ns: machine.now_ns(),
        registers: machine.registers(),
        memory: machine.digest_memory(),
        devices: machine.digest_devices(),
        output: machine.digest_output(),
        output_bytes: machine.output_bytes(),
    }
}

/// Runs to `until` through all idleness. `None` once the guest has left.
fn run(machine: &mut Machine, until: Until) -> Option<()> {
    // Each round of idleness waits for one of 200 interrupts.
    for _ in 0..1000 {
        match machine.run(until) {
            Stop::Reached => return Some(()),
            Stop::Idle {
                deadline_ns: Some(deadline_ns),
                is_dead: false,
            } => {
                machine.idle_to(deadline_ns);
            }
            // An interrupt or more may come while it is on its way out.
            Stop::DebugExit(200..) => return None,
            stop => panic!("stopped at {} by {stop:?}", machine.moment()),
        }
    }
    panic!("the kernel sleeps for ever")
}

#[test]
fn the_kernel_runs_and_prints() {
    let mut machine = machine();
    assert_eq!(run(&mut machine, Until::Branches(u64::MAX)), None);
    let bytes: usize = machine
        .take_output()
        .iter()
        .map(|Output { bytes, .. }| bytes.len())
        .sum();
    assert!(bytes >= 200);
    assert_eq!(
        machine.run(Until::Step),
        Stop::DebugExit(200),
        "it stays off"
    );
}

#[test]
fn a_digest_of_memory_is_the_same_in_full() {
    let mut machine = machine();
    for _ in 0..5 {
        let branches = machine.moment().branches + 3000;
        run(&mut machine, Until::Branches(branches)).expect("it is not done yet");
        assert_eq!(machine.digest_memory(), machine.digest_memory_fully());
    }
}

#[test]
fn saved_devices_come_back() {
    let mut machine = machine();
    run(&mut machine, Until::Branches(10_000)).expect("it is not done yet");
    let before = machine.save_devices();
    machine.restore_devices(&before).expect("its own state");
    assert_eq!(machine.save_devices(), before);
    assert!(
        machine
            .restore_devices(&before[..before.len() / 2])
            .is_err()
    );
}

/// A clock sample every so many branches, each a little late.
fn sample(machine: &mut Machine, n: u64) {
    machine.input(&Input::ClockSample {
        host_ns: n * 700_000,
    });
}

/// Runs for so many branches, and then steps. `None` once the guest has left.
fn go_on(machine: &mut Machine, branches: u64, steps: u64) -> Option<()> {
    let branches = machine.moment().branches + branches;
    run(machine, Until::Branches(branches))?;
    (0..steps).try_for_each(|_| run(machine, Until::Step))
}

const STRETCH: u64 = 20_000;
const STRETCHES: u64 = 4;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_make_no_difference(pieces in prop::collection::vec(1u64..5000, 1..40)) {
        let (mut whole, mut cut) = (machine(), machine());
        let mut lengths = pieces.iter().cycle();
        for n in 1..=STRETCHES {
            let end = Until::Branches(n * STRETCH);
            if run(&mut whole, end).is_none() {
                break;
            }
            while cut.moment().branches < whole.moment().branches {
                let length = lengths.next().expect("it is endless");
                let until = (cut.moment().branches + length).min(whole.moment().branches);
                run(&mut cut, Until::Branches(until)).expect("the whole got there");
                cut.digest_memory();
            }
            prop_assert_eq!(see(&mut whole), see(&mut cut));
            sample(&mut whole, n);
            sample(&mut cut, n);
        }
    }

    #[test]
    fn saving_and_restoring_at_any_moment_makes_no_difference(
        skips in prop::collection::vec((1u64..4000, 0u64..40), 1..20),
    ) {
        let (mut whole, mut saved) = (machine(), machine());
        for (n, (branches, steps)) in (1u64..).zip(skips) {
            let goes_on = [&mut whole, &mut saved].map(|machine| go_on(machine, branches, steps));
            prop_assert_eq!(goes_on[0], goes_on[1]);
            // With the other's, which nobody has saved before.
            saved.restore_devices(&whole.save_devices()).expect("a machine's own state");
            prop_assert_eq!(see(&mut whole), see(&mut saved));
            if goes_on[0].is_none() {
                break;
            }
            sample(&mut whole, n);
            sample(&mut saved, n);
        }
    }

    #[test]
    fn a_moment_is_found_again(skips in prop::collection::vec((1u64..4000, 0u64..40), 1..20)) {
        // The first run stops anywhere, by steps; the second goes there at once.
        let (mut first, mut second) = (machine(), machine());
        for (n, (branches, steps)) in (1u64..).zip(skips) {
            let until = Until::Branches(first.moment().branches + branches);
            if run(&mut first, until).is_none() {
                break;
            }
            for _ in 0..steps {
                run(&mut first, Until::Step).expect("it is not done yet");
            }
            run(&mut second, Until::Moment(first.moment())).expect("the first got there");
            prop_assert_eq!(see(&mut first), see(&mut second));
            sample(&mut first, n);
            sample(&mut second, n);
        }
    }
}
