//! A bar that shows how far something is that takes long.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Report;

/// A bar on standard error, if that is a terminal; it is gone when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Says `what` is done.
    pub(crate) fn new(what: &str, report: &Report) -> Bar {
        let shown = !report.is_json() && io::stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes} of {total_bytes}")
            .expect("the template is well-formed");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Bar(bar.with_message(what.to_owned()))
    }

    /// `done` bytes of `of` are done.
    pub(crate) fn set(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
