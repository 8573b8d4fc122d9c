//! `--stats`: where guest time went.

use machine::Count;
use serde_json::{Map, Value};

/// The counts as lines for people, after a report's own text.
pub(crate) fn lines(counts: &[Count]) -> String {
    counts
        .iter()
        .map(|Count { what, count }| format!("\n{count:>14} {what}"))
        .collect()
}

/// The counts for machines.
pub(crate) fn object(counts: &[Count]) -> Value {
    let fields: Map<String, Value> = counts
        .iter()
        .map(|Count { what, count }| (what.clone(), (*count).into()))
        .collect();
    fields.into()
}
