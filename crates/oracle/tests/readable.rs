//! The readable cases, judged by the silicon.

use oracle::case::Subject;
use oracle::compare::{differences, report};
use oracle::forms::{has_v3, is_v3};
use oracle::ins::load_all;
use oracle::silicon::Silicon;
use oracle::undefined::open;

#[test]
fn the_silicon_does_what_the_readable_cases_say() {
    let all = load_all().unwrap_or_else(|error| panic!("{error}"));
    let mut silicon = Silicon::start().expect("the host can run the cell");
    let mut wrong = String::new();
    for readable in all
        .iter()
        .filter(|readable| readable.not_on_silicon.is_none())
        .filter(|readable| has_v3() || !readable.case.forms().any(is_v3))
    {
        let outcome = silicon.run(&readable.case);
        let found = differences(
            &readable.case,
            &readable.expected,
            &outcome,
            &open(&readable.case, &outcome),
        );
        if !found.is_empty() {
            wrong.push_str(&format!(
                "{}: {}",
                readable.place,
                report(&readable.case, &found)
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(all.len() > 100, "{} cases", all.len());
}
