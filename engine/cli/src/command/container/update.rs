use std::process::ExitCode;

use serde_json::Value;

use crate::command::Errors;
use crate::context::Context;
use crate::options::{Members, cpus, restart_policy, swap};
use crate::output;
use crate::units::parse_size;

/// Update configuration of one or more containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = parse_size)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = parse_size)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = swap)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int")]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let body = body(args)?;
    anyhow::ensure!(
        body.as_object().is_some_and(|body| !body.is_empty()),
        "you must provide one or more flags when using this command"
    );
    let mut errors = Errors::default();
    for name in &args.containers {
        let answer =
            async { context.client.post(format!("{}/update", super::path(name)?)).json(&body).value().await };
        let Some(answer) = errors.keep(answer.await)? else { continue };
        output::line(name)?;
        for warning in answer["Warnings"].as_array().into_iter().flatten() {
            output::complain(warning.as_str().unwrap_or_default());
        }
    }
    errors.finish()
}

fn body(args: &Args) -> anyhow::Result<Value> {
    let restart = args.restart.as_deref().map(restart_policy).transpose()?;
    let mut body = Members::default();
    body.put("BlkioWeight", args.blkio_weight)
        .put("CpuPeriod", args.cpu_period)
        .put("CpuQuota", args.cpu_quota)
        .put("CpuRealtimePeriod", args.cpu_rt_period)
        .put("CpuRealtimeRuntime", args.cpu_rt_runtime)
        .put("CpuShares", args.cpu_shares)
        .put("NanoCpus", args.cpus)
        .put("CpusetCpus", args.cpuset_cpus.clone())
        .put("CpusetMems", args.cpuset_mems.clone())
        .put("Memory", args.memory)
        .put("MemoryReservation", args.memory_reservation)
        .put("MemorySwap", args.memory_swap)
        .put("RestartPolicy", restart);
    if let Some(limit) = args.pids_limit {
        body.always("PidsLimit", limit);
    }
    Ok(body.into_value())
}
