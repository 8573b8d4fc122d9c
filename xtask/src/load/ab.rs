//! ApacheBench: what it is told, and what it says.

use std::fmt;

/// So many requests a second would be more than anything here can answer; ab has a place in memory for each.
const REQUESTS_A_SECOND_MAX: u64 = 3000;
/// How long an answer may take before it counts as lost.
const ANSWER_MAX_S: u32 = 60;

/// Its arguments, but for the address.
pub(super) fn arguments(seconds: u64, clients: u32) -> Vec<String> {
    let requests = seconds * REQUESTS_A_SECOND_MAX;
    [
        ("-t", seconds),
        // Behind `-t`, which sets it, too.
        ("-n", requests),
        ("-c", clients.into()),
        ("-s", ANSWER_MAX_S.into()),
    ]
    .iter()
    .flat_map(|(option, value)| [(*option).to_owned(), value.to_string()])
    .chain(["-q".to_owned()])
    .collect()
}

/// What it measured.
#[derive(Debug, PartialEq)]
pub(super) struct Figures {
    requests: u64,
    requests_a_second: f64,
    /// Answers that did not come, were of another length, or no page.
    pub(super) errors: u64,
    /// Within how many milliseconds so many percent of the answers came.
    percentiles: Vec<(u32, u64)>,
}

impl Figures {
    /// Reads its report; `None` if it is none.
    pub(super) fn of(report: &str) -> Option<Figures> {
        let value = |what: &str| {
            let line = report.lines().find_map(|line| line.strip_prefix(what));
            line?.split_whitespace().next()
        };
        let whole = |what: &str| value(what)?.parse::<u64>().ok();
        // Those that it says nothing of there were none of.
        let [refused, unwritten] = ["Non-2xx responses:", "Write errors:"].map(whole);
        let percentiles = report.lines().filter_map(|line| {
            let (percent, rest) = line.trim().split_once('%')?;
            let time_ms = rest.split_whitespace().next()?.parse().ok()?;
            Some((percent.parse().ok()?, time_ms))
        });
        Some(Figures {
            requests: whole("Complete requests:")?,
            requests_a_second: value("Requests per second:")?.parse().ok()?,
            errors: whole("Failed requests:")? + refused.unwrap_or(0) + unwritten.unwrap_or(0),
            percentiles: percentiles.collect(),
        })
    }
}

impl fmt::Display for Figures {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {:.1} a second, {} errors; answered within",
            self.requests, self.requests_a_second, self.errors
        )?;
        for (percent, time_ms) in &self.percentiles {
            write!(f, " {percent}%: {time_ms} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ab 2.3 prints it, shortened.
    const REPORT: &str = "\
Complete requests:      1529
Failed requests:        2
   (Connect: 0, Receive: 0, Length: 2, Exceptions: 0)
Non-2xx responses:      3
Total transferred:      807840 bytes
Requests per second:    190.76 [#/sec] (mean)
Time per request:       41.938 [ms] (mean)

Percentage of the requests served within a certain time (ms)
  50%     37
  99%    151
 100%    787 (longest request)
";

    #[test]
    fn a_report_is_read() {
        let figures = Figures::of(REPORT).expect("it is one");
        let expected = Figures {
            requests: 1529,
            requests_a_second: 190.76,
            errors: 5,
            percentiles: vec![(50, 37), (99, 151), (100, 787)],
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn what_is_no_report_is_none() {
        assert_eq!(
            Figures::of("apr_socket_recv: Connection refused (111)"),
            None
        );
    }
}
