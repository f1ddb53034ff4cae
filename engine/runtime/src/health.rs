//! Whether a container works, as the results of its probes tell; Docker's rules (moby, `daemon/health.go`).

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many results are kept.
const LOG_MAX: usize = 5;
/// How many bytes of a probe's output are kept.
pub(crate) const OUTPUT_MAX: usize = 4096;

/// How a container is probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments, run as an exec with the container's environment, directory and user. It works if that
    /// exits with 0.
    pub args: Vec<String>,
    /// The time from the start, or the end of a probe, to the next probe.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// How long after the start failures do not count, as long as no probe has succeeded.
    pub start_period: Duration,
    /// The interval during that time.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy; at least 1.
    pub retries: u32,
}

impl HealthCheck {
    /// A check by this program with Docker's times.
    pub fn new(args: Vec<String>) -> Self {
        Self {
            args,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
            retries: 3,
        }
    }
}

/// Whether a container works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It is not known yet.
    #[default]
    Starting,
    /// It does.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// What the probes of a container have told since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// How many probes in a row have failed.
    pub failing_streak: u32,
    /// The last five results, newest last.
    pub log: Vec<ProbeResult>,
}

/// What one probe told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Its exit code; -1 if it could not be run or took too long.
    pub exit_code: i32,
    /// The first 4 KiB of what it wrote.
    pub output: String,
}

impl Health {
    /// Counts a result of a container that had run for `age` when the probe began; whether the verdict changed.
    pub(crate) fn count(&mut self, check: &HealthCheck, result: ProbeResult, age: Duration) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            (self.failing_streak, self.status) = (0, HealthStatus::Healthy);
        } else if self.status != HealthStatus::Starting || age >= check.start_period {
            self.failing_streak += 1;
            if self.failing_streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        if self.log.len() > LOG_MAX {
            self.log.remove(0);
        }
        self.status != before
    }

    /// The time to the next probe of a container that has run for `age`.
    pub(crate) fn pause(&self, check: &HealthCheck, age: Duration) -> Duration {
        if self.status == HealthStatus::Starting && age < check.start_period {
            check.start_interval
        } else {
            check.interval
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn check() -> HealthCheck {
        HealthCheck { start_period: SECOND * 10, retries: 2, ..HealthCheck::new(vec!["true".to_owned()]) }
    }

    /// The verdicts after probes with these exit codes, at these seconds of the container's life.
    fn verdicts(probes: &[(u64, i32)]) -> Vec<HealthStatus> {
        let mut health = Health::default();
        let probe = |&(age, exit_code): &(u64, i32)| {
            let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
            let result = ProbeResult { start, end, exit_code, output: String::new() };
            health.count(&check(), result, SECOND * u32::try_from(age).unwrap());
            health.status
        };
        probes.iter().map(probe).collect()
    }

    #[test]
    fn failures_count_once_the_start_is_over() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        assert_eq!(verdicts(&[(1, 1), (5, 1), (9, 1)]), [Starting; 3]);
        assert_eq!(verdicts(&[(9, 1), (10, 1), (11, -1), (12, 0)]), [Starting, Starting, Unhealthy, Healthy]);
        assert_eq!(verdicts(&[(1, 0), (2, 1), (3, 1)]), [Healthy, Healthy, Unhealthy], "a success ends it");
        assert_eq!(verdicts(&[(11, 1), (12, 0), (13, 1)]), [Starting, Healthy, Healthy], "in a row");
    }

    #[test]
    fn the_last_five_results_are_kept() {
        let mut health = Health::default();
        for exit_code in 0..7 {
            let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
            health.count(&check(), ProbeResult { start, end, exit_code, output: String::new() }, SECOND);
        }
        let codes: Vec<i32> = health.log.iter().map(|result| result.exit_code).collect();
        assert_eq!(codes, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn probes_come_more_often_during_the_start() {
        let mut health = Health::default();
        assert_eq!(health.pause(&check(), SECOND), SECOND * 5);
        assert_eq!(health.pause(&check(), SECOND * 10), SECOND * 30);
        health.status = HealthStatus::Healthy;
        assert_eq!(health.pause(&check(), SECOND), SECOND * 30);
    }
}
