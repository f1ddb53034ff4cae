//! The parameters of `POST /build`.

use std::collections::BTreeMap;

use engine::BuildNetwork;
use engine::image::{Credentials, Platform};
use engine::runtime::spec::Resources;
use engine_types::Reference;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::auth::registry_config;
use super::host_config::HostConfig;
use super::{Call, Query, typed};
use crate::error::ApiError;

/// Where a build's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remote {
    /// The request's body, an archive.
    Body,
    /// An archive or a Dockerfile behind `http` or `https`.
    Url(String),
    /// A repository, the reference to check out, and a directory in it.
    Git { url: String, reference: Option<String>, directory: Option<String> },
}

/// How a build's commands are connected, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BuildNetworkMode {
    /// The network of this name; the default one without.
    Named(Option<String>),
    /// One that is not a network.
    Other(BuildNetwork),
}

/// What is to be built and how.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) remote: Remote,
    /// Within the context.
    pub(crate) dockerfile: Option<String>,
    pub(crate) tags: Vec<Reference>,
    pub(crate) target: Option<String>,
    pub(crate) args: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) quiet: bool,
    pub(crate) no_cache: bool,
    pub(crate) pull: bool,
    pub(crate) network: BuildNetworkMode,
    pub(crate) resources: Resources,
    pub(crate) extra_hosts: Vec<(String, String)>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) credentials: BTreeMap<String, Credentials>,
}

/// Reads them. `rm` and `forcerm` are as good as given: no container of a build is ever left. Images that `cachefrom`
/// names add nothing to what the cache knows.
pub(crate) fn build(call: &Call) -> Result<Build, ApiError> {
    let query = &call.query;
    match query.text("version") {
        None | Some("1") => {}
        Some("2") => return Err(no_buildkit()),
        Some(other) => return Err(ApiError::Invalid(format!("invalid version {other:?}"))),
    }
    let refused = [
        (query.flag("squash"), "--squash"),
        (query.text("outputs").is_some_and(|outputs| outputs != "[]"), "--output"),
        (query.text("cgroupparent").is_some(), "--cgroup-parent of builds"),
        (query.text("remote") == Some("client-session"), "a context of a session"),
    ];
    if let Some((_, option)) = refused.iter().find(|(asked, _)| *asked) {
        return Err(ApiError::Unsupported((*option).to_owned()));
    }
    if let Some(text) = query.text("platform") {
        let host = Platform::host();
        if super::platform(text)? != (Platform { variant: None, ..host.clone() }) {
            return Err(ApiError::Unsupported(format!("building for {text} on {host}")));
        }
    }
    json_parameter::<Vec<String>>(query, "cachefrom", "cache-from")?;
    let host = host_config(query)?;
    let args: BTreeMap<String, Option<String>> = json_parameter(query, "buildargs", "build args")?;
    let tags = query.all("t").iter().filter(|tag| !tag.is_empty()).map(|tag| {
        tag.parse().map_err(|e: engine_types::ParseReferenceError| ApiError::Invalid(e.to_string()))
    });
    Ok(Build {
        remote: remote(query.text("remote").unwrap_or_default())?,
        dockerfile: query.text("dockerfile").map(str::to_owned),
        tags: tags.collect::<Result<_, _>>()?,
        target: query.text("target").map(str::to_owned),
        args: args.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        labels: json_parameter(query, "labels", "labels")?,
        quiet: query.flag("q"),
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        network: network(query.text("networkmode").unwrap_or_default())?,
        resources: host.resources()?,
        extra_hosts: host.extra_hosts()?,
        shm_size: query.number("shmsize")?.filter(|&size| size > 0),
        credentials: registry_config(&call.headers)?,
    })
}

/// For clients that ask for BuildKit's protocol.
pub(crate) fn no_buildkit() -> ApiError {
    let text = "BuildKit's protocol (the classic builder is here: set DOCKER_BUILDKIT=0)";
    ApiError::Unsupported(text.to_owned())
}

/// The limits, which have the same names and rules as those of containers.
fn host_config(query: &Query) -> Result<HostConfig, ApiError> {
    let number = |name: &str| query.number::<i64>(name).map(Option::unwrap_or_default);
    let ulimits: Vec<Value> = json_parameter(query, "ulimits", "ulimits")?;
    typed(json!({
        "Memory": number("memory")?,
        "MemorySwap": number("memswap")?,
        "CpuShares": number("cpushares")?,
        "CpuPeriod": number("cpuperiod")?,
        "CpuQuota": number("cpuquota")?,
        "CpusetCpus": query.text("cpusetcpus").unwrap_or_default(),
        "CpusetMems": query.text("cpusetmems").unwrap_or_default(),
        "Ulimits": ulimits,
        "ExtraHosts": query.all("extrahosts"),
    }))
}

fn json_parameter<T: DeserializeOwned + Default>(
    query: &Query,
    name: &str,
    what: &str,
) -> Result<T, ApiError> {
    let Some(text) = query.text(name) else { return Ok(T::default()) };
    let parsed: Result<Option<T>, _> = serde_json::from_str(text);
    Ok(parsed.map_err(|e| ApiError::Invalid(format!("error reading {what}: {e}")))?.unwrap_or_default())
}

fn network(mode: &str) -> Result<BuildNetworkMode, ApiError> {
    Ok(match mode {
        "" | "default" | "bridge" => BuildNetworkMode::Named(None),
        "host" => BuildNetworkMode::Other(BuildNetwork::Host),
        "none" => BuildNetworkMode::Other(BuildNetwork::None),
        other if other.starts_with("container:") => {
            return Err(ApiError::Unsupported("--network container: of builds".to_owned()));
        }
        name => BuildNetworkMode::Named(Some(name.to_owned())),
    })
}

/// Docker's rules for what a context's address means (moby `pkg/urlutil`, Docker's documentation, "Build context").
fn remote(text: &str) -> Result<Remote, ApiError> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    let git_prefixes = ["git://", "git@", "github.com/", "ssh://"];
    if git_prefixes.iter().any(|prefix| text.starts_with(prefix)) || (is_url && address.ends_with(".git")) {
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        if reference.starts_with('-') || address.starts_with('-') {
            return Err(ApiError::Invalid(format!("invalid git reference {reference:?}")));
        }
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let url = if address.starts_with("github.com/") {
            format!("https://{address}")
        } else {
            address.to_owned()
        };
        return Ok(Remote::Git { url, reference: given(reference), directory: given(directory) });
    }
    match text {
        "" => Ok(Remote::Body),
        _ if is_url => Ok(Remote::Url(text.to_owned())),
        _ => Err(ApiError::Invalid(format!("remoteURL ({text}) could not be recognized as URL"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_contexts_are_told_apart() {
        let git = |url: &str, reference: Option<&str>, directory: Option<&str>| Remote::Git {
            url: url.to_owned(),
            reference: reference.map(str::to_owned),
            directory: directory.map(str::to_owned),
        };
        let cases = [
            ("", Remote::Body),
            ("https://h/x.tar.gz", Remote::Url("https://h/x.tar.gz".to_owned())),
            ("https://h/x.git", git("https://h/x.git", None, None)),
            ("https://h/x.git#v1:sub", git("https://h/x.git", Some("v1"), Some("sub"))),
            ("git://h/x#:sub", git("git://h/x", None, Some("sub"))),
            ("github.com/a/b", git("https://github.com/a/b", None, None)),
            ("git@h:a/b.git", git("git@h:a/b.git", None, None)),
        ];
        for (text, expected) in cases {
            assert_eq!(remote(text).unwrap(), expected, "{text}");
        }
        for bad in ["ftp://x", "/etc", "git://h/x#--upload-pack=x", "file:///x"] {
            assert!(remote(bad).is_err(), "{bad}");
        }
    }
}
