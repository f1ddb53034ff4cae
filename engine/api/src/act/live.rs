//! What is asked of a container while it runs: to freeze, to do with less, what it does and uses.

use engine::runtime::spec::Resources;
use engine::runtime::{RestartPolicy, Usage};
use engine::{Container, Error};
use engine_types::{ContainerId, Paths};
use jiff::Timestamp;
use tokio::process::Command;

use super::Daemon;
use crate::error::ApiError;

/// The arguments of ps where nobody says otherwise; Docker's.
const PS_ARGUMENTS: &str = "-ef";

/// What a container uses, at a time.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) time: Timestamp,
    /// `None` of one that does not run.
    pub(crate) running: Option<Running>,
}

/// The numbers of one that runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) usage: Usage,
    /// Time that all processors of the host have spent, in nanoseconds.
    pub(crate) host_cpu: u64,
    /// Processors of the host.
    pub(crate) processors: usize,
    /// Memory of the host, in bytes.
    pub(crate) host_memory: u64,
    pub(crate) interfaces: Vec<Interface>,
}

/// What went through an interface: bytes, packets, errors, dropped; in and out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: [u64; 4],
    pub(crate) sent: [u64; 4],
}

/// The processes of a container, as ps lists them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) titles: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Daemon {
    pub(crate) async fn pause(&self, key: &str) -> Result<(), ApiError> {
        let container = self.running(key).await?;
        self.engine().pause_container(&container.id.to_string()).await?;
        Ok(self.engine().record_container(container.id, "pause", &[]).await?)
    }

    pub(crate) async fn unpause(&self, key: &str) -> Result<(), ApiError> {
        let container = self.running(key).await?;
        self.engine().unpause_container(&container.id.to_string()).await?;
        Ok(self.engine().record_container(container.id, "unpause", &[]).await?)
    }

    pub(crate) async fn update(
        &self,
        key: &str,
        limits: &Resources,
        restart: Option<RestartPolicy>,
    ) -> Result<(), ApiError> {
        let id = self.engine().container(key).await?.id;
        self.engine().update_container(&id.to_string(), limits, restart).await?;
        Ok(self.engine().record_container(id, "update", &[]).await?)
    }

    /// The processes of a container, as the host's ps with these arguments lists them.
    pub(crate) async fn top(&self, key: &str, arguments: Option<&str>) -> Result<Processes, ApiError> {
        let container = self.running(key).await?;
        let arguments = arguments.unwrap_or(PS_ARGUMENTS).split_whitespace();
        let output = Command::new("ps").args(arguments).stdin(std::process::Stdio::null()).output().await;
        let output = output.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                ApiError::Internal("ps is not installed on the host: install the package procps".to_owned())
            }
            _ => ApiError::Internal(format!("error running ps: {e}")),
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let text = format!("error running ps: exit status {}: {}", code(&output.status), said.trim());
            return Err(ApiError::Internal(text));
        }
        let meter = self.engine().meter(container.id)?;
        let pids = super::blocking(move || meter.processes()).await?;
        let processes = of_container(&String::from_utf8_lossy(&output.stdout), &pids)?;
        self.engine().record_container(container.id, "top", &[]).await?;
        Ok(processes)
    }

    /// What a container uses now.
    pub(crate) async fn sample(&self, id: ContainerId) -> Result<Sample, ApiError> {
        let container = self.engine().container(&id.to_string()).await?;
        let (meter, paths) = (self.engine().meter(id)?, self.engine().paths().clone());
        let pid = container.state.as_ref().and_then(|state| state.pid).filter(|_| container.running);
        let running = match pid {
            Some(pid) => Some(super::blocking(move || measure(&meter, &paths, pid)).await?),
            None => None,
        };
        Ok(Sample { id, name: container.name, time: Timestamp::now(), running })
    }

    async fn running(&self, key: &str) -> Result<Container, ApiError> {
        let container = self.engine().container(key).await?;
        if container.running {
            Ok(container)
        } else {
            Err(Error::NotRunning(container.id.to_string()).into())
        }
    }
}

fn code(status: &std::process::ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

/// The lines of ps's output whose PID is among these.
fn of_container(output: &str, pids: &[i32]) -> Result<Processes, ApiError> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|title| title == "PID");
    let column =
        column.ok_or_else(|| ApiError::Internal("Couldn't find PID field in ps output".to_owned()))?;
    let mut rows = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let pid = fields.get(column).and_then(|pid| pid.parse().ok());
        if !pid.is_some_and(|pid| pids.contains(&pid)) {
            continue;
        }
        // The last column, the command, has spaces.
        let (first, rest) = fields.split_at(fields.len().min(titles.len() - 1));
        rows.push(first.iter().map(|field| (*field).to_owned()).chain([rest.join(" ")]).collect());
    }
    Ok(Processes { titles, rows })
}

fn measure(meter: &engine::runtime::Meter, paths: &Paths, pid: i32) -> std::io::Result<Running> {
    let usage = meter.usage()?;
    let (host_cpu, processors) = processors(&std::fs::read_to_string(paths.proc_file("stat"))?);
    let host_memory = super::system::memory(&paths.proc_file("meminfo"));
    // It may have ended meanwhile.
    let interfaces = std::fs::read_to_string(paths.proc_file(format!("{pid}/net/dev"))).unwrap_or_default();
    Ok(Running { usage, host_cpu, processors, host_memory, interfaces: self::interfaces(&interfaces) })
}

/// proc(5)'s `stat`: the first seven numbers of the line `cpu` are what moby sums up, in ticks of 10 ms; each
/// processor has a line of its own.
fn processors(stat: &str) -> (u64, usize) {
    const TICK: u64 = 10_000_000;
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = all.unwrap_or_default().split_whitespace().take(7);
    let sum: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    (sum * TICK, stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count())
}

/// `net/dev` of proc(5): two lines of titles, then `name: ` and eight numbers each way.
fn interfaces(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let (received, sent) = (numbers.first_chunk()?, numbers.get(8..)?.first_chunk()?);
        Some(Interface { name: name.trim().to_owned(), received: *received, sent: *sent })
    };
    text.lines().skip(2).filter_map(interface).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_of_ps_count() {
        let output = "UID   PID CMD\nroot    1 /sbin/init splash\nroot   42 sleep   10 11\n";
        let processes = of_container(output, &[42, 43]).unwrap();
        assert_eq!(processes.titles, ["UID", "PID", "CMD"]);
        assert_eq!(processes.rows, [["root", "42", "sleep 10 11"]]);
        assert!(of_container("UID CMD\n", &[]).is_err());
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n";
        assert_eq!(processors(stat), (280_000_000, 2));
        let table = "Inter-|   Receive  |  Transmit\n face |bytes |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let eth0 = Interface { name: "eth0".to_owned(), received: [1, 2, 3, 4], sent: [5, 6, 7, 8] };
        assert_eq!(interfaces(table), [eth0]);
    }
}
