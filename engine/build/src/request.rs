use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use engine_image::Image;

use crate::sandbox::Stream;

/// What to build and how.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// The directory whose files `COPY` and `ADD` see.
    pub context: PathBuf,
    /// The Dockerfile; `Dockerfile` in the context if `None`. It need not lie in the context.
    pub dockerfile: Option<PathBuf>,
    /// The stage to build, by name or number; the last if `None`.
    pub target: Option<String>,
    /// Values for `ARG`.
    pub args: BTreeMap<String, String>,
    /// Labels of the image, added to those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Runs every step anew.
    pub no_cache: bool,
    /// Asks registries for newer base images even when some are here.
    pub pull: bool,
    /// Where results of steps are remembered; shared by all builds over one image store. Created if absent.
    pub cache_dir: PathBuf,
    /// The context came from somebody else: links in it never lead to the host's own Dockerfile or `.dockerignore`.
    pub foreign: bool,
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image, stored but not named.
    pub image: Image,
    /// Steps that wrote a layer, or looked for one in the cache.
    pub steps: usize,
    /// Those of them that the cache had.
    pub cached: usize,
}

/// One step: a `FROM`, or an instruction that writes files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// The stage's name, or `stage-N`.
    pub stage: String,
    /// The stage's number in the Dockerfile, from zero.
    pub stage_number: usize,
    /// Counted from one, within the stage.
    pub index: usize,
    /// Steps of the stage, those of triggers not counted.
    pub total: usize,
    /// The instruction on one line.
    pub text: String,
}

/// Progress of a build. Events of stages that are built at the same time mix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildEvent {
    /// An instruction of the Dockerfile begins, one that writes no files as well; those of triggers are part of `FROM`.
    Instruction {
        /// The stage's number in the Dockerfile, from zero.
        stage: usize,
        /// Counted from one, over all stages that the build needs, in the file's order.
        number: usize,
        /// Instructions of all stages that the build needs.
        total: usize,
        /// The instruction on one line.
        text: String,
    },
    /// An instruction is done.
    Reached {
        /// The stage's number.
        stage: usize,
        /// Names what the stage is now, in hexadecimal digits: the image it starts from, later a digest of all that it
        /// was made of. Empty for `scratch`.
        state: String,
        /// It was the stage's last.
        last: bool,
    },
    /// A step begins.
    Started(Step),
    /// The cache had the result of a step, which has begun.
    Cached(Step),
    /// A command printed something; pieces may end within a line.
    Output {
        /// The step.
        step: Step,
        /// Where it printed.
        stream: Stream,
        /// What it printed.
        bytes: Vec<u8>,
    },
    /// A step is done.
    Done {
        /// The step.
        step: Step,
        /// How long it took.
        duration: Duration,
    },
    /// A step failed; the build's error says why.
    Failed(Step),
    /// All steps are done, the image is being stored.
    Exporting,
}
