use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::build_context::{self, Source};
use crate::context::Context;
use crate::failure::Failure;
use crate::options::{labels, swap, ulimit};
use crate::progress::{self, Target};
use crate::units::parse_size;
use crate::{credentials, output};

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add a custom host-to-IP mapping ("host:ip")
    #[arg(long, value_name = "list")]
    add_host: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "list")]
    build_arg: Vec<String>,
    /// Images to consider as cache sources
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    cache_from: Vec<String>,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
    /// Limit the CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Name of the Dockerfile (Default is "PATH/Dockerfile")
    #[arg(short, long, value_name = "string")]
    file: Option<String>,
    /// Always remove intermediate containers
    #[arg(long)]
    force_rm: bool,
    /// Write the image ID to the file
    #[arg(long, value_name = "string")]
    iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = parse_size)]
    memory: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = swap)]
    memory_swap: Option<i64>,
    /// Set the networking mode for the RUN instructions during build
    #[arg(long, value_name = "string", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    platform: Option<String>,
    /// Always attempt to pull a newer version of the image
    #[arg(long)]
    pull: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Remove intermediate containers after a successful build (default true)
    #[arg(long, value_name = "bool", action = clap::ArgAction::Set, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    rm: bool,
    /// Security options
    #[arg(long, value_name = "strings")]
    security_opt: Vec<String>,
    /// Size of "/dev/shm"
    #[arg(long, value_name = "bytes", value_parser = parse_size)]
    shm_size: Option<i64>,
    /// Name and optionally a tag in the "name:tag" format
    #[arg(short, long, value_name = "list", value_parser = tag)]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "string")]
    target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = ulimit)]
    ulimit: Vec<Value>,
    /// The directory whose files COPY and ADD see, a URL, or - for standard input
    #[arg(value_name = "PATH | URL | -")]
    context: String,
}

fn tag(text: &str) -> Result<String, String> {
    super::pull::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    ensure!(args.security_opt.is_empty(), "--security-opt is not supported by build");
    ensure!(args.cgroup_parent.is_none(), "--cgroup-parent is not supported by build");
    let source = build_context::open(&args.context, args.file.as_deref())?;
    let request = parameters(context, args)?;
    let (request, body) = match source {
        Source::Remote(url) => {
            let request = request.query("remote", url);
            (request.maybe("dockerfile", args.file.as_deref()), None)
        }
        Source::Archive(body) => (request.maybe("dockerfile", args.file.as_deref()), Some(body)),
        Source::Directory { body, dockerfile } => (request.query("dockerfile", dockerfile), Some(body)),
    };
    let request = match body {
        Some(body) => request.body("application/x-tar", body),
        None => request,
    };
    let answer = request.send().await?;
    let target = if args.quiet { Target::Nowhere } else { Target::Stdout };
    let mut id = String::new();
    let built = progress::show(answer.lines(), target, |line| {
        // A quiet build says nothing but its id.
        let said = line["stream"].as_str().map(str::trim).filter(|text| text.starts_with("sha256:"));
        if let Some(given) = line["aux"]["ID"].as_str().or(said.filter(|_| args.quiet)) {
            given.clone_into(&mut id);
        }
    });
    built.await.map_err(|error| Failure::new(1, error.to_string()))?;
    if args.quiet {
        output::line(&id)?;
    }
    if let Some(path) = &args.iidfile {
        ensure!(!id.is_empty(), "server did not provide an image ID. Cannot write {}", path.display());
        std::fs::write(path, &id).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parameters<'a>(context: &'a Context, args: &Args) -> anyhow::Result<crate::client::Request<'a>> {
    let mut request = context.client.post("/build");
    for tag in &args.tag {
        request = request.query("t", tag);
    }
    let mut build_args = serde_json::Map::new();
    let proxies = context.proxies();
    for text in proxies.iter().chain(&args.build_arg) {
        match text.split_once('=') {
            Some((name, value)) => build_args.insert(name.to_owned(), value.into()),
            // The environment's value; the daemon leaves one alone that has none.
            None => build_args.insert(text.clone(), std::env::var(text).map_or(Value::Null, Value::from)),
        };
    }
    if !build_args.is_empty() {
        request = request.query("buildargs", json!(build_args));
    }
    let labels = labels(&[], &args.label)?;
    if !labels.is_empty() {
        request = request.query("labels", json!(labels));
    }
    if !args.cache_from.is_empty() {
        request = request.query("cachefrom", json!(args.cache_from));
    }
    if !args.ulimit.is_empty() {
        request = request.query("ulimits", json!(args.ulimit));
    }
    if !args.add_host.is_empty() {
        request = request.query("extrahosts", args.add_host.join(","));
    }
    if let Some(bad) = args.add_host.iter().find(|text| !text.contains(':')) {
        bail!("bad format for add-host: {bad:?}");
    }
    let network = Some(args.network.as_str()).filter(|network| *network != "default");
    let credentials = credentials::all(&context.config)?;
    if credentials.as_object().is_some_and(|all| !all.is_empty()) {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::URL_SAFE.encode(credentials.to_string());
        request = request.header("x-registry-config", text);
    }
    Ok(request
        .query("rm", u8::from(args.rm))
        .flag("forcerm", args.force_rm)
        .flag("nocache", args.no_cache)
        .flag("pull", args.pull)
        .flag("q", args.quiet)
        .maybe("memory", args.memory)
        .maybe("memswap", args.memory_swap)
        .maybe("cpushares", args.cpu_shares)
        .maybe("cpuperiod", args.cpu_period)
        .maybe("cpuquota", args.cpu_quota)
        .maybe("cpusetcpus", args.cpuset_cpus.as_deref())
        .maybe("cpusetmems", args.cpuset_mems.as_deref())
        .maybe("shmsize", args.shm_size)
        .maybe("networkmode", network)
        .maybe("platform", args.platform.as_deref())
        .maybe("target", args.target.as_deref()))
}
