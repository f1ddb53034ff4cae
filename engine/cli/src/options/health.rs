use anyhow::ensure;
use serde_json::{Value, json};

use super::Members;

/// The `--health-*` options.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct HealthOptions {
    /// Command to run to check health
    #[arg(long, value_name = "string")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_interval: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_timeout: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_start_period: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration)]
    health_start_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int")]
    health_retries: Option<i64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

/// Reads a duration as Go does, in nanoseconds.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    engine::build::parse_duration(text).map_err(|_| format!("time: invalid duration {text:?}"))
}

impl HealthOptions {
    pub(super) fn body(&self) -> anyhow::Result<Value> {
        let numbers = [
            ("interval", "Interval", self.health_interval),
            ("timeout", "Timeout", self.health_timeout),
            ("start-period", "StartPeriod", self.health_start_period),
            ("start-interval", "StartInterval", self.health_start_interval),
            ("retries", "Retries", self.health_retries),
        ];
        let command = self.health_cmd.as_deref().filter(|command| !command.is_empty());
        let asked = command.is_some() || numbers.iter().any(|(_, _, number)| number.is_some_and(|n| n != 0));
        if self.no_healthcheck {
            ensure!(!asked, "--no-healthcheck conflicts with --health-* options");
            return Ok(json!({ "Test": ["NONE"] }));
        }
        let mut check = Members::default();
        check.put("Test", command.map(|command| json!(["CMD-SHELL", command])));
        for (option, name, number) in numbers {
            ensure!(number.is_none_or(|n| n >= 0), "--health-{option} cannot be negative");
            check.put(name, number);
        }
        Ok(if asked { check.into_value() } else { Value::Null })
    }
}
