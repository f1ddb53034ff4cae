//! Our engine as a builder, in this process: the words of its errors are those that `worker` shows.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::Mutex;

use engine::build::{BuildEvent, BuildRequest};
use engine::image::PullOptions;
use engine::{BuildCommands, BuildSandbox, Engine, Session};
use tests::{World, expect_success};
use tokio::sync::OnceCell;

use crate::builder::{BASE_NAME, Base, Builder, latest};

/// Our engine with a root of its own.
pub(crate) struct Ours {
    pub(crate) world: World,
}

impl Ours {
    pub(crate) fn new(base: &Base) -> Self {
        let world = World::new();
        tests::import_into(&world.root(), &world.run_dir(), &base.archive(), BASE_NAME);
        Self { world }
    }
}

impl Builder for Ours {
    fn directory(&self, name: &str) -> PathBuf {
        self.world.dir(name)
    }

    /// Writes the image's id to the output and what happened to the errors, as `worker` would.
    fn build(&self, context: &Path, name: &str, flags: &[String]) -> Output {
        let request = request(context, flags);
        let said = Mutex::new(String::new());
        let built = self.world.with_engine(async |engine| {
            let session = engine.begin_session().await.unwrap();
            let built = build(engine, &session, request, name, &said).await;
            engine.end_session(session).await.unwrap();
            built
        });
        let mut said = said.into_inner().unwrap();
        let (code, id) = match built {
            Ok(id) => (0, id),
            Err(error) => {
                said.push_str(&format!("engine: {error}\n"));
                (1, String::new())
            }
        };
        Output { status: ExitStatus::from_raw(code << 8), stdout: id.into_bytes(), stderr: said.into_bytes() }
    }

    fn save(&self, name: &str) -> PathBuf {
        let archive = self.world.path().join(format!("{name}.tar"));
        let mut save = self.world.command("engine");
        expect_success(save.args(["save", "--output"]).arg(&archive).arg(latest(name)));
        archive
    }
}

async fn build(
    engine: &Engine,
    session: &Session,
    request: BuildRequest,
    name: &str,
    said: &Mutex<String>,
) -> Result<String, String> {
    let request = BuildRequest { cache_dir: engine.build_cache(), ..request };
    let sandbox = BuildSandbox {
        engine,
        session: session.id(),
        network: &OnceCell::new_with(Some(engine.default_network().await.unwrap())),
        commands: BuildCommands::default(),
        pull: PullOptions::default(),
        on_pull: &|_, _| {},
    };
    let tell = |event| {
        let mut said = said.lock().unwrap();
        match event {
            BuildEvent::Cached(step) => {
                said.push_str(&format!("[{} {}/{}] cached\n", step.stage, step.index, step.total));
            }
            BuildEvent::Output { bytes, .. } => said.push_str(&String::from_utf8_lossy(&bytes)),
            _ => {}
        }
    };
    let built = engine.build(&request, &sandbox, &tell).await.map_err(|error| with_causes(&error))?;
    engine.images().tag(built.image.id, &name.parse().unwrap()).unwrap();
    engine.images().sync().unwrap();
    Ok(built.image.id.to_string())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The flags of a case, of those that there are.
fn request(context: &Path, flags: &[String]) -> BuildRequest {
    let mut request = BuildRequest { context: context.to_owned(), ..BuildRequest::default() };
    let mut words = flags.iter();
    while let Some(flag) = words.next() {
        if flag == "--no-cache" {
            request.no_cache = true;
            continue;
        }
        let value = words.next().unwrap();
        let (name, text) = value.split_once('=').unwrap_or((value, ""));
        match flag.as_str() {
            "-f" => request.dockerfile = Some(value.into()),
            "--target" => request.target = Some(value.clone()),
            "--build-arg" => drop(request.args.insert(name.to_owned(), text.to_owned())),
            "--label" => drop(request.labels.insert(name.to_owned(), text.to_owned())),
            other => panic!("{other}: no flag of a case so far"),
        }
    }
    request
}
