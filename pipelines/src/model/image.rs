use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Env;
use crate::schema;

/// An image: a reference that is pulled, or a Dockerfile of the repository that is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Image {
    /// An image reference as Docker writes it; variables may be named: `postgres:$PG`.
    Reference(#[schemars(schema_with = "schema::image_reference")] String),
    /// An image built from the repository.
    Build {
        /// The directory to build, or the build in full.
        build: Build,
    },
}

/// How an image is built. A string is the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BuildForm", deny_unknown_fields)]
pub struct Build {
    /// The directory sent to the build, from the workspace's root.
    pub context: String,
    /// The Dockerfile, from the context; `Dockerfile` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The stage to build; the last where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Build arguments. Values may name variables.
    #[serde(default, skip_serializing_if = "Env::is_empty")]
    pub args: Env,
}

/// The build's two forms in the file.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum BuildForm {
    /// The directory sent to the build, from the workspace's root.
    Context(#[schemars(schema_with = "schema::workspace_path")] String),
    Full(FullBuild),
}

/// The build in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FullBuild {
    /// The directory sent to the build, from the workspace's root; the root where absent.
    #[serde(default = "workspace_root")]
    #[schemars(schema_with = "schema::workspace_path")]
    context: String,
    /// The Dockerfile, from the context; `Dockerfile` where absent.
    #[schemars(schema_with = "schema::workspace_path")]
    #[serde(default)]
    dockerfile: Option<String>,
    /// The stage to build; the last where absent.
    target: Option<String>,
    /// Build arguments. Values may name variables.
    #[serde(default)]
    #[schemars(schema_with = "schema::env")]
    args: Env,
}

fn workspace_root() -> String {
    ".".to_owned()
}

impl JsonSchema for Build {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Build".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        BuildForm::json_schema(generator)
    }
}

impl From<BuildForm> for Build {
    fn from(form: BuildForm) -> Self {
        match form {
            BuildForm::Context(context) => Self { context, dockerfile: None, target: None, args: Env::new() },
            BuildForm::Full(FullBuild { context, dockerfile, target, args }) => {
                Self { context, dockerfile, target, args }
            }
        }
    }
}
