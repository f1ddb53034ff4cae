use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use bytes::Bytes;
use serde_json::Value;
use tar::Builder;

use super::cp_paths::{Found, Place, Plan, base, parent_and_base, plan};
use crate::archive::{self, Owner};
use crate::client::{Body, ClientError, Response, copy_in, produced};
use crate::context::Context;
use crate::streams;
use crate::units::bytes;

/// Copy files/folders between a container and the local filesystem
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    quiet: bool,
    /// What is copied: CONTAINER:PATH, a path here, or - for an archive on standard input
    #[arg(value_name = "SRC_PATH")]
    source: String,
    /// Where to: CONTAINER:PATH, a path here, or - for an archive on standard output
    #[arg(value_name = "DEST_PATH")]
    target: String,
}

/// Pieces of an archive that wait to be unpacked.
const PIECES_MAX: usize = 16;
/// Bits of a mode as Go has them: <https://pkg.go.dev/io/fs#FileMode>.
const GO_DIRECTORY: u64 = 1 << 31;
const GO_SYMLINK: u64 = 1 << 27;

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    match (Place::parse(&args.source), Place::parse(&args.target)) {
        (Place::Container(name, path), Place::Local(target)) => {
            copy_out(context, args, &name, &path, &target).await?
        }
        (Place::Local(source), Place::Container(name, path)) => {
            copy_in_to(context, args, &source, &name, &path).await?
        }
        (Place::Container(..), Place::Container(..)) => bail!("copying between containers is not supported"),
        (Place::Local(_), Place::Local(_)) => bail!("must specify at least one container source"),
    }
    Ok(ExitCode::SUCCESS)
}

fn told(args: &Args, size: u64, target: &str) {
    if !args.quiet {
        crate::output::complain(format_args!("Successfully copied {} to {target}", bytes(size as f64)));
    }
}

/// What is at a path of a container, and where it leads if it is a link.
#[derive(Debug)]
struct Stat {
    directory: bool,
    link: Option<String>,
}

impl Stat {
    fn of(answer: &Response<'_>) -> Result<Self, ClientError> {
        let text = answer.header("x-docker-container-path-stat").unwrap_or_default();
        let decoded = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        let stat: Value = serde_json::from_slice(&decoded)?;
        let mode = stat["mode"].as_u64().unwrap_or(0);
        let link = stat["linkTarget"].as_str().filter(|_| mode & GO_SYMLINK != 0).map(str::to_owned);
        Ok(Self { directory: mode & GO_DIRECTORY != 0, link })
    }

    async fn ask(context: &Context, container: &str, path: &str) -> Result<Self, ClientError> {
        let answer = context.client.head(format!("{container}/archive")).query("path", path).send().await?;
        let stat = Self::of(&answer)?;
        answer.bytes().await?;
        Ok(stat)
    }

    /// Where a link at this path leads.
    fn target(&self, path: &str) -> Option<String> {
        let link = self.link.as_deref()?;
        if link.starts_with('/') {
            return Some(link.to_owned());
        }
        let (directory, _) = parent_and_base(path);
        Some(directory.join(link).display().to_string())
    }
}

async fn copy_out(
    context: &Context,
    args: &Args,
    name: &str,
    path: &str,
    target: &str,
) -> anyhow::Result<()> {
    let container = super::path(name)?;
    let (mut path, mut name) = (path.to_owned(), base(path));
    if args.follow_link
        && let Some(target) = Stat::ask(context, &container, &path).await?.target(&path)
    {
        // What it is called stays what was asked for.
        name = base(&path);
        path = target;
    }
    let found = match target {
        "-" => Found { directory: true, exists: true },
        _ => Found::here(Path::new(target))?,
    };
    let mut answer = context.client.get(format!("{container}/archive")).query("path", &path).send().await?;
    if target == "-" {
        while let Some(piece) = answer.piece().await? {
            streams::write_all(io::stdout().as_fd(), &piece)?;
        }
        return Ok(());
    }
    let directory = Stat::of(&answer)?.directory;
    let plan = plan(&name, directory, Path::new(target), found)?;
    let contents = name == ".";
    let (sender, receiver) = sync_channel(PIECES_MAX);
    let unpacked = std::thread::spawn(move || unpack(Pieces::new(receiver), &plan, contents));
    let sent = feed(answer, sender).await;
    let unpacked = unpacked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    unpacked.with_context(|| format!("copy to {target}"))?;
    told(args, sent?, target);
    Ok(())
}

/// Hands an answer over; one who takes no more knows why.
async fn feed(mut answer: Response<'_>, sender: SyncSender<Bytes>) -> Result<u64, ClientError> {
    let mut size = 0;
    while let Some(piece) = answer.piece().await? {
        size += piece.len() as u64;
        if sender.send(piece).is_err() {
            break;
        }
    }
    Ok(size)
}

/// Reads pieces as they come.
struct Pieces {
    receiver: Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    fn new(receiver: Receiver<Bytes>) -> Self {
        Self { receiver, current: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.receiver.recv() {
                Ok(piece) => self.current = piece,
                Err(_) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

/// Unpacks into a directory; where the thing is to be called otherwise, first into one of its own beside. Nothing is
/// written outside, whatever the names in the archive.
fn unpack(archive: impl Read, plan: &Plan, contents: bool) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    let Some(name) = &plan.rename else {
        for entry in archive.entries()? {
            entry?.unpack_in(&plan.directory)?;
        }
        return Ok(());
    };
    let beside = tempfile::Builder::new().prefix(".copy-").tempdir_in(&plan.directory)?;
    for entry in archive.entries()? {
        entry?.unpack_in(beside.path())?;
    }
    let target = plan.directory.join(name);
    if contents {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(beside.path(), std::fs::Permissions::from_mode(0o755))?;
        return std::fs::rename(beside.keep(), target);
    }
    match std::fs::read_dir(beside.path())?.next() {
        Some(only) => std::fs::rename(only?.path(), target),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is empty")),
    }
}

async fn copy_in_to(
    context: &Context,
    args: &Args,
    source: &str,
    name: &str,
    path: &str,
) -> anyhow::Result<()> {
    let container = super::path(name)?;
    let shown = format!("{name}:{path}");
    if source != "-" {
        std::fs::symlink_metadata(source).with_context(|| format!("lstat {source}"))?;
    }
    let (mut path, mut found) = (path.to_owned(), Found { exists: false, directory: false });
    match Stat::ask(context, &container, &path).await {
        Ok(mut stat) => {
            if let Some(target) = stat.target(&path) {
                path = target;
                stat = Stat::ask(context, &container, &path).await?;
            }
            found = Found { exists: true, directory: stat.directory };
        }
        // A container that is not there is told of by the next request.
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (body, directory) = if source == "-" {
        ensure!(found.directory, "destination \"{shown}\" must be a directory");
        (copy_in(Counted(io::stdin(), sent.clone())), PathBuf::from(&path))
    } else {
        pack(args, source, Path::new(&path), found, sent.clone())?
    };
    let request = context.client.put(format!("{container}/archive")).query("path", directory.display());
    let request = request.query("noOverwriteDirNonDir", "true");
    let request = if args.archive { request.query("copyUIDGID", "true") } else { request };
    request.body("application/x-tar", body).done().await?;
    if source != "-" {
        told(args, sent.load(std::sync::atomic::Ordering::Relaxed), &shown);
    }
    Ok(())
}

type Counter = std::sync::Arc<std::sync::atomic::AtomicU64>;

/// Counts what is read, or written.
struct Counted<T>(T, Counter);

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.fetch_add(length as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(length)
    }
}

impl<T: io::Write> io::Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.0.write(bytes)?;
        self.1.fetch_add(length as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An archive of a file or directory here, and the directory of the container that it belongs in.
fn pack(
    args: &Args,
    source: &str,
    target: &Path,
    found: Found,
    sent: Counter,
) -> anyhow::Result<(Body, PathBuf)> {
    let given = PathBuf::from(source);
    let failed = || format!("lstat {source}");
    let follow = args.follow_link || source.ends_with('/') || source.ends_with("/.");
    let metadata = if follow { std::fs::metadata(&given) } else { std::fs::symlink_metadata(&given) };
    let metadata = metadata.with_context(failed)?;
    let name = match base(source).as_str() {
        // The root, or where this process is, has its contents copied.
        "" | ".." => ".".to_owned(),
        name => name.to_owned(),
    };
    let plan = plan(&name, metadata.is_dir(), target, found)?;
    let name = plan.rename.clone().unwrap_or(name);
    let body = produced(move |pieces| {
        let mut archive = Builder::new(Counted(pieces, sent));
        archive.follow_symlinks(false);
        let top = if name == "." { PathBuf::new() } else { PathBuf::from(&name) };
        if !top.as_os_str().is_empty() {
            archive::append(&mut archive, &given, &top, &metadata, Owner::Same)?;
        }
        if metadata.is_dir() {
            archive::append_below(&mut archive, &given, &top, Owner::Same)?;
        }
        archive.finish()
    });
    Ok((body, plan.directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            // As `append_data` would, but for what it refuses.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn things_get_the_name_they_are_to_have() {
        let dir = tempfile::tempdir().unwrap();
        let plan = |rename: Option<&str>| Plan {
            directory: dir.path().to_owned(),
            rename: rename.map(str::to_owned),
        };
        unpack(&archive(&[("a", "1")])[..], &plan(None), false).unwrap();
        unpack(&archive(&[("a", "2")])[..], &plan(Some("b")), false).unwrap();
        unpack(&archive(&[("x", "3"), ("y", "4")])[..], &plan(Some("c")), true).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(["a", "b", "c/x", "c/y"].map(read), ["1", "2", "3", "4"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left beside");
    }

    #[test]
    fn nothing_is_written_outside() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink(dir.path(), inside.join("link")).unwrap();
        let plan = Plan { directory: inside, rename: None };
        unpack(&archive(&[("../above", "x")])[..], &plan, false).unwrap();
        assert!(unpack(&archive(&[("link/through", "x")])[..], &plan, false).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
