//! Builds one stage.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use engine_image::{Image, StagedLayer};
use tokio::sync::Notify;

use crate::build::Shared;
use crate::cache::Key;
use crate::config::{Outside, StageConfig};
use crate::diagnostic::{Diagnostic, Place};
use crate::dockerfile::{Action, Copy, CopySource, Instruction, Run, parse_trigger};
use crate::error::Problem;
use crate::gather::{Origin, Tree};
use crate::layers::{Finished, Layers};
use crate::owner;
use crate::plan::{Base, copy_base};
use crate::request::{BuildEvent, Step};
use crate::rootfs::Dir;
use crate::sandbox::{PROGRAMS_DIR, RunStep, Sandbox};
use crate::write::{Destination, Writer};

/// With less than this left, a disk is full: no file of use to a build fits.
const FULL_BYTES: u64 = 64 * 1024;

/// A stage under way.
pub(crate) struct StageBuild<'a, S> {
    shared: &'a Shared<'a, S>,
    number: usize,
    key: Key,
    layers: Layers,
    config: StageConfig,
    outside: Outside<'a>,
    index: usize,
    total: usize,
    steps: usize,
    cached: usize,
}

/// A `COPY` or `ADD` whose variables are expanded.
struct Expanded {
    sources: Vec<CopySource>,
    destination: Destination,
    owner: Option<engine_image::archive::Owner>,
    mode: Option<u32>,
    /// The instruction as the history shows it.
    created_by: String,
}

impl<'a, S: Sandbox> StageBuild<'a, S> {
    /// Builds the stage `number`, waiting for those it needs.
    pub(crate) async fn build(shared: &'a Shared<'a, S>, number: usize) -> Result<Finished, Diagnostic> {
        let stage = &shared.plan.file.stages[number];
        let writes =
            |i: &&Instruction| matches!(i.action, Action::Run(_) | Action::Copy(_) | Action::Workdir(_));
        let outside = Outside {
            args: &shared.request.args,
            global_args: &shared.plan.global_args,
            escape: shared.plan.file.escape,
        };
        let mut build = Self {
            shared,
            number,
            key: Key::of("scratch").finish(),
            layers: Layers::new(shared.store.clone(), shared.cache.clone()),
            config: StageConfig::new(None),
            outside,
            index: 0,
            total: 1 + stage.instructions.iter().filter(writes).count(),
            steps: 0,
            cached: 0,
        };
        let result = build.all().await;
        // What is done is worth keeping even when a later step failed.
        let settled = build.layers.settle().await.map_err(|problem| stage.place.problem(problem));
        build.layers.release();
        result.and(settled)?;
        let Self { key, layers, mut config, steps, cached, .. } = build;
        config.image.rootfs.diff_ids = layers.diff_ids();
        Ok(Finished { key, layers, config, steps, cached })
    }

    async fn all(&mut self) -> Result<(), Diagnostic> {
        let stage = &self.shared.plan.file.stages[self.number];
        let name = stage.name.as_ref().map(|name| format!(" AS {name}")).unwrap_or_default();
        let (first, total) = self.shared.plan.instructions(self.number);
        self.tell_instruction(first, total, format!("FROM {}{name}", stage.image));
        let step = self.next_step(&format!("FROM {}", stage.image));
        let started = self.start(&step);
        let base = self.from(&stage.image_place).await;
        let (from, mut state) = self.end(&step, started, base)?;
        for trigger in self.config.take_triggers() {
            let mut instruction = parse_trigger(&format!("ONBUILD of {from}"), &trigger)?;
            instruction.text = format!("ONBUILD {}", instruction.text);
            self.instruction(&instruction).await?;
            state = self.state();
        }
        self.tell_reached(state, stage.instructions.is_empty());
        for (n, instruction) in (1..).zip(&stage.instructions) {
            self.tell_instruction(first + n, total, instruction.text.clone());
            self.instruction(instruction).await?;
            self.tell_reached(self.state(), n == stage.instructions.len());
        }
        Ok(())
    }

    fn tell_instruction(&self, number: usize, total: usize, text: String) {
        (self.shared.progress)(BuildEvent::Instruction { stage: self.number, number, total, text });
    }

    fn tell_reached(&self, state: String, last: bool) {
        (self.shared.progress)(BuildEvent::Reached { stage: self.number, state, last });
    }

    /// Names what the stage is made of so far: its files and its configuration.
    fn state(&self) -> String {
        let config = serde_json::to_vec(&self.config.image.config).unwrap_or_default();
        Key::of("state").key(self.key).part(config).finish().hex()
    }

    /// Takes over the base; gives its name, and what names its content.
    async fn from(&mut self, place: &Place) -> Result<(String, String), Diagnostic> {
        match &self.shared.plan.bases[self.number] {
            Base::Scratch => Ok(("scratch".to_owned(), String::new())),
            Base::Stage(base) => {
                let finished = self.shared.finished(*base).await.map_err(|problem| place.problem(problem))?;
                self.key = finished.key;
                self.layers = finished.layers.share();
                self.config = StageConfig::after(&finished.config);
                Ok((self.shared.plan.stage_name(*base), self.state()))
            }
            Base::Image(reference) => {
                let image = self.shared.image(reference, self.number).await;
                let image = image.map_err(|problem| place.problem(problem))?;
                self.key = Key::of("image").part(image.id.to_string()).finish();
                self.start_from(&image);
                Ok((reference.to_string(), image.id.0.hex()))
            }
        }
    }

    fn start_from(&mut self, image: &Image) {
        let dirs = self.shared.store.layer_dirs(image);
        for (layer, dir) in image.layers.iter().zip(dirs.into_iter().rev()) {
            self.layers.push(layer.diff_id, layer.chain_id, dir);
        }
        self.config = StageConfig::new(Some(&image.config));
    }

    async fn instruction(&mut self, instruction: &Instruction) -> Result<(), Diagnostic> {
        let result = match &instruction.action {
            Action::Run(_) | Action::Copy(_) | Action::Workdir(_) => {
                let step = self.next_step(&instruction.text);
                let started = self.start(&step);
                self.steps += 1;
                let result = match &instruction.action {
                    Action::Run(run) => self.run(run, &step).await.map_err(|p| instruction.problem(p)),
                    Action::Copy(copy) => self.copy(copy, &step, &instruction.place).await,
                    Action::Workdir(dir) => {
                        self.workdir(dir, &step).await.map_err(|p| instruction.problem(p))
                    }
                    _ => Ok(()),
                };
                return self.end(&step, started, result);
            }
            other => self.config.apply(other, &instruction.text, &self.outside),
        };
        result.map_err(|problem| instruction.problem(problem))
    }

    async fn run(&mut self, run: &Run, step: &Step) -> Result<(), Problem> {
        let args = match run {
            Run::Command(command) => self.config.command(command),
            Run::Script(script) => self.config.shell_command(script),
            Run::Program { name, .. } => self.config.shell_command(&format!("{PROGRAMS_DIR}/{name}")),
        };
        let programs = match run {
            Run::Program { name, content } => vec![(name.clone(), content.clone())],
            _ => Vec::new(),
        };
        let shown_args = self.config.shown_args();
        let mut env = self.config.env().to_vec();
        let (cwd, user) = (self.config.working_dir().to_owned(), self.config.image.config.user.clone());
        let key = Key::of("run").key(self.key).parts(&args).parts(&env).part(&cwd).part(&user);
        let key = key.parts(programs.iter().map(|(_, content)| content)).finish();
        env.extend(self.config.proxies(&self.outside));
        let shown = shown_command(run, &args);
        let command = args.join(" ");
        let created_by = match shown_args.len() {
            0 => format!("RUN {command} # buildkit"),
            n => format!("RUN |{n} {} {command} # buildkit", shown_args.join(" ")),
        };
        if self.take_cached(key, step, &created_by) {
            return Ok(());
        }
        let staged = self.shared.store.stage().map_err(Problem::Store)?;
        let (upper, work) = (staged.upper(), staged.work());
        let dirs = self.layers.dirs();
        let mounted = Notify::new();
        let progress = self.shared.progress;
        let code = {
            let output = |stream, bytes: &[u8]| {
                progress(BuildEvent::Output { step: step.clone(), stream, bytes: bytes.to_owned() });
            };
            let notify = || mounted.notify_one();
            let running = self.shared.sandbox.run(RunStep {
                layers: &dirs,
                upper: &upper,
                work: &work,
                args: &args,
                env: &env,
                cwd: &cwd,
                user: &user,
                programs: &programs,
                output: &output,
                mounted: &notify,
            });
            let settling = async {
                mounted.notified().await;
                self.layers.settle().await?;
                std::future::pending::<Result<std::convert::Infallible, Problem>>().await
            };
            let (running, settling) = (pin!(running), pin!(settling));
            tokio::select! {
                biased;
                code = running => code.map_err(|source| Problem::Run { command: shown.clone(), source })?,
                Err(problem) = settling => return Err(problem),
            }
        };
        self.layers.release();
        if code != 0 {
            // Asked before what it wrote goes away.
            let full = is_full(&upper).then_some(upper);
            return Err(Problem::ExitCode { command: shown, code, full });
        }
        self.add_layer(staged, key, created_by);
        Ok(())
    }

    async fn workdir(&mut self, dir: &str, step: &Step) -> Result<(), Problem> {
        let given = self.config.expand(dir, &self.outside)?;
        self.config.set_working_dir(&given);
        let dir = self.config.working_dir().to_owned();
        let created_by = format!("WORKDIR {}", if given.starts_with('/') { &given } else { &dir });
        let user = self.config.image.config.user.clone();
        let key = Key::of("workdir").key(self.key).part(&dir).part(&user).finish();
        if self.take_cached(key, step, &created_by) {
            return Ok(());
        }
        let dirs = self.layers.dirs();
        let owner = match owner::resolve(&user, &Dir::layers(dirs.clone())) {
            // As in BuildKit; the first command that would run as that user fails.
            Err(Problem::UnknownOwner { .. }) => None,
            owner => Some(owner?),
        };
        let staged = self.shared.store.stage().map_err(Problem::Store)?;
        let cancelled = self.shared.cancelled.flag();
        let mut writer = Writer::new(staged.upper(), staged.work(), &dirs, owner, None, &cancelled);
        writer.make_dir(Path::new(&dir))?;
        writer.finish()?;
        self.add_layer(staged, key, created_by);
        Ok(())
    }

    async fn copy(&mut self, copy: &Copy, step: &Step, place: &Place) -> Result<(), Diagnostic> {
        let flag = |name| place.at(copy.flag_span(name).unwrap_or(place.span.clone()));
        let origin = self.origin(copy).await.map_err(|problem| flag("from").problem(problem))?;
        let expanded = self.expand_copy(copy, place)?;
        let (trees, digest) = self.gather(copy, &expanded, &origin, place).await?;
        let created_by = expanded.created_by.clone();
        let key = self.copy_key(copy, &expanded, digest);
        if self.take_cached(key, step, &created_by) {
            return Ok(());
        }
        let staged = self.shared.store.stage().map_err(|e| place.problem(Problem::Store(e)))?;
        let dirs = self.layers.dirs();
        let cancelled = self.shared.cancelled.flag();
        let add = copy.add;
        let written = blocking(move || {
            let Expanded { destination, owner, mode, sources, .. } = expanded;
            let mut writer = Writer::new(staged.upper(), staged.work(), &dirs, owner, mode, &cancelled);
            for source in sources {
                if let CopySource::Inline { name, content, .. } = source {
                    writer.write_inline(&name, &content, &destination)?;
                }
            }
            for tree in &trees {
                let archive = add && !tree.is_dir() && tree.items[0].node.meta.is_file();
                if !(archive && writer.unpack(&origin, &tree.items[0].node, &destination)?) {
                    writer.copy(&origin, tree, &destination)?;
                }
            }
            writer.finish()?;
            Ok(staged)
        });
        let staged = written.await.map_err(|problem| place.problem(problem))?;
        self.add_layer(staged, key, created_by);
        Ok(())
    }

    /// Where the instruction's files come from.
    async fn origin(&self, copy: &Copy) -> Result<Origin, Problem> {
        let Some(from) = &copy.from else { return Ok(self.shared.context.clone()) };
        let stages = &self.shared.plan.file.stages;
        let dirs = match copy_base(stages, self.number, from)? {
            Base::Scratch => Vec::new(),
            Base::Stage(stage) => self.shared.finished(stage).await?.layers.dirs(),
            Base::Image(reference) => {
                let image = self.shared.image(&reference, self.number).await?;
                self.shared.store.layer_dirs(&image)
            }
        };
        Ok(Origin { root: Dir::layers(dirs), shown: from.clone(), context: None })
    }

    fn expand_copy(&self, copy: &Copy, place: &Place) -> Result<Expanded, Diagnostic> {
        let flag = |name| place.at(copy.flag_span(name).unwrap_or(place.span.clone()));
        let expand = |value: &Option<String>, name| {
            let value = value.as_deref().map(|value| self.config.expand(value, &self.outside)).transpose();
            value.map_err(|problem| flag(name).problem(problem))
        };
        let sources = self.expand_sources(copy).map_err(|problem| place.problem(problem))?;
        let destination = self.config.expand(&copy.destination, &self.outside);
        let destination = destination.map_err(|problem| place.problem(problem))?;
        let (chown, chmod) = (expand(&copy.chown, "chown")?, expand(&copy.chmod, "chmod")?);
        let root = || Dir::layers(self.layers.dirs());
        let owner = chown.as_deref().map(|value| owner::resolve(value, &root())).transpose();
        let owner = owner.map_err(|problem| flag("chown").problem(problem))?;
        let mode = chmod.as_deref().map(parse_mode).transpose();
        let mode = mode.map_err(|problem| flag("chmod").problem(problem))?;
        let flags = [("chown", chown), ("chmod", chmod)];
        let created_by = created_by(copy.keyword(), &flags, &sources, &destination);
        let destination = Destination::new(&destination, self.config.working_dir());
        Ok(Expanded { sources, destination, owner, mode, created_by })
    }

    fn expand_sources(&self, copy: &Copy) -> Result<Vec<CopySource>, Problem> {
        let expand = |source: &CopySource| match source {
            CopySource::Path(path) => {
                let path = self.config.expand(path, &self.outside)?;
                let remote = ["http://", "https://", "git@", "git://"].iter().any(|p| path.starts_with(p));
                if copy.add && remote {
                    return Err(Problem::Unsupported(format!("ADD of an address ({path})")));
                }
                Ok(CopySource::Path(path))
            }
            CopySource::Inline { name, content, expand: true } => {
                let lookup = |name: &str| self.config.variable(name);
                let content = crate::expand::expand_document(content, &lookup)
                    .map_err(|reason| Problem::Expand { word: name.clone(), reason })?;
                Ok(CopySource::Inline { name: name.clone(), content, expand: false })
            }
            inline @ CopySource::Inline { .. } => Ok(inline.clone()),
        };
        copy.sources.iter().map(expand).collect()
    }

    /// Finds the files and hashes them.
    async fn gather(
        &self,
        copy: &Copy,
        expanded: &Expanded,
        origin: &Origin,
        place: &Place,
    ) -> Result<(Vec<Tree>, [u8; 32]), Diagnostic> {
        let mut paths = Vec::new();
        for (source, span) in expanded.sources.iter().zip(&copy.spans) {
            if let CopySource::Path(path) = source {
                paths.push((path.clone(), place.at(span.clone())));
            }
        }
        let (origin, files) = (origin.clone(), Arc::clone(&self.shared.files));
        let cancelled = self.shared.cancelled.flag();
        let missing = |path: &str| Problem::NotFound {
            instruction: copy.keyword(),
            source_path: path.to_owned(),
            destination: copy.destination.clone(),
            missing: format!("/{}", crate::ignore::clean(path)),
            place: origin.shown.clone(),
        };
        let sources = copy.sources.len();
        let work = {
            let origin = origin.clone();
            let paths = paths.clone();
            move || {
                let mut trees = Vec::new();
                for (number, (path, _)) in paths.iter().enumerate() {
                    match origin.gather(path, &cancelled) {
                        Ok(Some(found)) => trees.extend(found),
                        Ok(None) => return Ok(Err(number)),
                        Err(problem) => return Err(problem),
                    }
                }
                let digest = origin.digest(&trees, &files, &cancelled)?;
                Ok(Ok((trees, digest)))
            }
        };
        let found = blocking(work).await.map_err(|problem| place.problem(problem))?;
        let (trees, digest) = found.map_err(|number| paths[number].1.problem(missing(&paths[number].0)))?;
        let several = sources > 1 || trees.len() > 1;
        if several && !expanded.destination.is_dir {
            let problem = Problem::DestinationNotDirectory { instruction: copy.keyword() };
            return Err(place.at(copy.spans[copy.spans.len() - 1].clone()).problem(problem));
        }
        Ok((trees, digest))
    }

    fn copy_key(&self, copy: &Copy, expanded: &Expanded, digest: [u8; 32]) -> Key {
        let owner = expanded.owner.map(|owner| format!("{}:{}", owner.uid, owner.gid));
        let inline = expanded.sources.iter().flat_map(|source| match source {
            CopySource::Inline { name, content, .. } => vec![name.clone(), content.clone()],
            CopySource::Path(_) => Vec::new(),
        });
        Key::of(copy.keyword())
            .key(self.key)
            .part(digest)
            .part([u8::from(copy.from.is_some()), u8::from(expanded.destination.is_dir)])
            .part(expanded.destination.path.as_os_str().as_encoded_bytes())
            .parts(owner)
            .parts(expanded.mode.map(u32::to_le_bytes))
            .parts(inline)
            .finish()
    }

    fn take_cached(&mut self, key: Key, step: &Step, created_by: &str) -> bool {
        if self.shared.request.no_cache {
            return false;
        }
        let Some(created) = self.layers.take_cached(key) else { return false };
        self.key = key;
        self.cached += 1;
        self.config.image.created = Some(created.clone());
        self.config.add_history(created_by.to_owned(), Some(created), false);
        (self.shared.progress)(BuildEvent::Cached(step.clone()));
        true
    }

    fn add_layer(&mut self, staged: StagedLayer, key: Key, created_by: String) {
        let created = jiff::Timestamp::now().to_string();
        self.key = key;
        self.config.image.created = Some(created.clone());
        self.config.add_history(created_by.clone(), Some(created.clone()), false);
        self.layers.add(staged, key, created, created_by);
    }

    fn next_step(&mut self, text: &str) -> Step {
        self.index += 1;
        Step {
            stage: self.shared.plan.stage_name(self.number),
            stage_number: self.number,
            index: self.index,
            total: self.total.max(self.index),
            text: text.to_owned(),
        }
    }

    fn start(&self, step: &Step) -> Instant {
        (self.shared.progress)(BuildEvent::Started(step.clone()));
        Instant::now()
    }

    fn end<T>(&self, step: &Step, started: Instant, result: Result<T, Diagnostic>) -> Result<T, Diagnostic> {
        (self.shared.progress)(match &result {
            Ok(_) => BuildEvent::Done { step: step.clone(), duration: started.elapsed() },
            Err(_) => BuildEvent::Failed(step.clone()),
        });
        result
    }
}

/// Does work that reads and writes files where it does not keep other stages waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    // The thread was cancelled with the runtime, or panicked.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Problem::Cancelled))
}

/// The command as errors and the history show it, as in BuildKit.
fn shown_command(run: &Run, args: &[String]) -> String {
    match run {
        Run::Script(_) => format!("{} (here-document)", args[..args.len() - 1].join(" ")),
        Run::Command(_) | Run::Program { .. } => args.join(" "),
    }
}

fn created_by(
    keyword: &str,
    flags: &[(&str, Option<String>)],
    sources: &[CopySource],
    destination: &str,
) -> String {
    let mut shown = keyword.to_owned();
    for (flag, value) in flags {
        if let Some(value) = value {
            shown.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in sources {
        match source {
            CopySource::Path(path) => shown.push_str(&format!(" {path}")),
            CopySource::Inline { name, .. } => shown.push_str(&format!(" <<{name}")),
        }
    }
    format!("{shown} {destination} # buildkit")
}

/// Whether nothing more can be written where a directory lies; commands say so in words of their own, if at all.
fn is_full(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|fs| {
        fs.f_bavail.saturating_mul(fs.f_frsize) < FULL_BYTES || (fs.f_files > 0 && fs.f_favail == 0)
    })
}

fn parse_mode(value: &str) -> Result<u32, Problem> {
    match u32::from_str_radix(value, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(Problem::Syntax(format!(
            "invalid chmod parameter: {value:?}. it should be octal string and between 0 and 07777"
        ))),
    }
}
