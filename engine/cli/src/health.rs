//! The `--health-*` options of `run`.

use engine::image::{ContainerConfig, Healthcheck};
use engine::resolve_health;
use engine::runtime::HealthCheck;

#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// Shell command that tells whether the container works.
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two runs of it (30s).
    #[arg(long, value_name = "DURATION", value_parser = engine::build::parse_duration, default_value = "0")]
    health_interval: i64,
    /// How long one run may take (30s).
    #[arg(long, value_name = "DURATION", value_parser = engine::build::parse_duration, default_value = "0")]
    health_timeout: i64,
    /// Time after the start in which failures do not count (0s).
    #[arg(long, value_name = "DURATION", value_parser = engine::build::parse_duration, default_value = "0")]
    health_start_period: i64,
    /// Time between two runs in the start period (5s).
    #[arg(long, value_name = "DURATION", value_parser = engine::build::parse_duration, default_value = "0")]
    health_start_interval: i64,
    /// Failures in a row that make it unhealthy (3).
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    health_retries: i64,
    /// Run no health command, not even the image's.
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// The check of a container of this image.
    pub(crate) fn resolve(&self, image: &ContainerConfig) -> anyhow::Result<Option<HealthCheck>> {
        let mut asked = Healthcheck {
            test: self
                .health_cmd
                .iter()
                .flat_map(|script| ["CMD-SHELL".to_owned(), script.clone()])
                .collect(),
            interval: self.health_interval,
            timeout: self.health_timeout,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
            retries: self.health_retries,
        };
        if self.no_healthcheck {
            anyhow::ensure!(
                asked == Healthcheck::default(),
                "--no-healthcheck conflicts with --health-* options"
            );
            asked.test = vec!["NONE".to_owned()];
        }
        let check = resolve_health(image.healthcheck.as_ref(), image.shell.as_deref(), &asked);
        Ok(check.map_err(engine::Error::from)?)
    }
}
