//! The generator: it reaches every form, repeats itself from its seed, and gives cases that get
//! somewhere; and the silicon gives the same answer twice.

use oracle::case::{Case, End, Mode, Subject};
use oracle::compare::{differences, report};
use oracle::forms::Family;
use oracle::generate::Generator;
use oracle::silicon::Silicon;
use oracle::undefined::open;

const MODES: [Mode; 2] = [Mode::Long, Mode::Compat];

#[test]
fn every_form_is_reached_within_five_rounds() {
    for mode in MODES {
        let generator = Generator::new(1, mode, &Family::ALL);
        let forms = generator.form_count() as u64;
        assert!(forms > 1000, "{mode:?}: {forms} forms");
        for form in 0..forms {
            assert!(
                (0..5).any(|round| generator.case(form + round * forms).is_some()),
                "{mode:?}: form {form} is never encoded"
            );
        }
    }
}

#[test]
fn a_seed_determines_its_cases() {
    let draw = |seed| {
        Generator::new(seed, Mode::Long, &Family::ALL)
            .take(500)
            .collect::<Vec<Case>>()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn most_cases_run_to_their_end_and_none_is_a_system_call() {
    for mode in MODES {
        let cases: Vec<Case> = Generator::new(2, mode, &Family::ALL).take(4000).collect();
        let outcomes = Silicon::start()
            .expect("the host can run the cell")
            .run_all(&cases);
        let count =
            |end: fn(&End) -> bool| outcomes.iter().filter(|outcome| end(&outcome.end)).count();
        assert!(count(|end| *end == End::Left) > 2500);
        assert!(count(|end| matches!(end, End::Fault(_))) > 400);
        assert!(count(|end| matches!(end, End::Lost(_) | End::Endless)) < 20);
        assert_eq!(count(|end| *end == End::SystemCall), 0);
    }
}

#[test]
fn the_silicon_agrees_with_itself() {
    let cases: Vec<Case> = Generator::new(3, Mode::Long, &Family::ALL)
        .take(4000)
        .collect();
    let run = || {
        Silicon::start()
            .expect("the host can run the cell")
            .run_all(&cases)
    };
    for ((case, first), second) in cases.iter().zip(run()).zip(run()) {
        let found = differences(case, &first, &second, &open(case, &first));
        assert!(found.is_empty(), "{}", report(case, &found));
    }
}
