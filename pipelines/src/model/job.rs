use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Env, Image, Service, Size, Step, forms};
use crate::{Condition, schema};

/// A job as the file has it: one container, in which its steps run in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The jobs that must have succeeded before this one starts; of a matrix, all of its jobs.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::job_names")]
    pub needs: Vec<String>,
    /// Runs the job once for each combination of values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// Whether the job runs at all: a CEL expression over `branch`, `tag`, `event`, `pr`, `commit`, `repo`, `env`
    /// and `matrix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::job_condition")]
    pub when: Option<Condition>,
    /// The job's image; the pipeline's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Variables of the job. Values may name standard variables, the pipeline's and the matrix's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::env")]
    pub env: Env,
    /// Containers that run beside the job, reachable by their name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(schema_with = "schema::services")]
    pub services: IndexMap<String, Service>,
    /// Files kept from one run to the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::caches")]
    pub cache: Vec<CacheSpec>,
    /// The names of the secrets that the job's steps have as variables.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::env_names")]
    pub secrets: Vec<String>,
    /// How long one attempt of the job may take, post steps excluded: `30m`, `1h30m`. An hour where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How often a failed job is tried again, each time in a new container.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = MAX_RETRIES))]
    pub retry: u8,
    /// Whether the run goes on, and can succeed, though this job failed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_failure: bool,
    /// The user the steps run as: a name or id of the image, with a group after a colon if wanted. The image's
    /// own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text")]
    pub user: Option<String>,
    /// The directory the steps start in, from `/workspace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::nonempty")]
    pub workdir: Option<String>,
    /// What the job's container may use of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What the job can reach. Where absent: its services and the internet, not the host.
    #[serde(default, skip_serializing_if = "Network::is_private")]
    pub network: Network,
    /// What the job does. The first step that fails fails the job; its exit code is the job's.
    #[schemars(schema_with = "schema::steps")]
    pub steps: Vec<Step>,
    /// What is done after the steps, whether they succeeded or not.
    #[serde(default, skip_serializing_if = "Post::is_empty")]
    pub post: Post,
    /// Files of the workspace that are kept when the job ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactsSpec>,
}

/// The most times that a failed job is tried again.
pub const MAX_RETRIES: u8 = 10;

/// The values that a job is run with, one job for each combination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// The combinations left out: those that have all values of an entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Env>,
    /// More values for the combinations that an entry agrees with; a combination of its own where it agrees
    /// with none. GitHub's rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Env>,
    /// Each variable's values.
    #[serde(flatten)]
    pub variables: IndexMap<String, Vec<String>>,
}

impl JsonSchema for Matrix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matrix".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schema::matrix()
    }
}

/// One cache entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheSpec {
    /// The entry's name. Variables may be named, and `${hash:Cargo.lock}` stands for the contents of the
    /// workspace's files that the pattern matches.
    #[schemars(schema_with = "schema::cache_key")]
    pub key: String,
    /// The files and directories kept: below the workspace, absolute, or below the home directory (`~/`).
    #[serde(deserialize_with = "forms::list")]
    #[schemars(schema_with = "schema::paths")]
    pub paths: Vec<String>,
}

/// Files of the workspace that are kept when the job ends, however it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsSpec {
    /// Patterns of the files kept.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::path_globs")]
    pub paths: Vec<String>,
    /// Patterns of the JUnit reports, whose test cases the run shows.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::path_globs")]
    pub junit: Vec<String>,
}

/// What a container may use of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// The most memory: `512MiB`, `2g`. Above it the job is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// The most processor time, in processors: `1.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 1024.0))]
    pub cpus: Option<f64>,
}

// The schema admits only finite numbers, so equality is total.
impl Eq for Resources {}

/// What a job can reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "NetworkForm", into = "NetworkForm")]
pub enum Network {
    /// Its services and the internet, not the host.
    #[default]
    Private,
    /// Its services, the internet and the host's own services.
    Host,
    /// Nothing but itself; such a job has no services.
    None,
}

impl Network {
    fn is_private(&self) -> bool {
        *self == Self::Private
    }
}

/// The network's forms in the file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum NetworkForm {
    Named(NamedNetwork),
    Access(HostAccess),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum NamedNetwork {
    /// No network but the loopback interface.
    None,
}

/// More than the private network.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HostAccess {
    /// Whether the job reaches the host's own services.
    host: bool,
}

impl From<NetworkForm> for Network {
    fn from(form: NetworkForm) -> Self {
        match form {
            NetworkForm::Named(NamedNetwork::None) => Self::None,
            NetworkForm::Access(HostAccess { host: true }) => Self::Host,
            NetworkForm::Access(HostAccess { host: false }) => Self::Private,
        }
    }
}

impl From<Network> for NetworkForm {
    fn from(network: Network) -> Self {
        match network {
            Network::Private => Self::Access(HostAccess { host: false }),
            Network::Host => Self::Access(HostAccess { host: true }),
            Network::None => Self::Named(NamedNetwork::None),
        }
    }
}

impl JsonSchema for Network {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        NetworkForm::json_schema(generator)
    }
}

/// Steps after the job's own, in the same container; they run even when the job timed out or was cancelled. They
/// do not change how the job ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Post {
    /// Run however the steps ended, after those of `success` or `failure`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub always: Vec<Step>,
    /// Run when all steps succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<Step>,
    /// Run when a step failed, timed out or was cancelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failure: Vec<Step>,
}

impl Post {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(n: &u8) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
pub(super) fn is_false(b: &bool) -> bool {
    !b
}
