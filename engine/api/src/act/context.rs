//! Where the files of a build come from: an archive in the request, an address, a git repository.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use engine::image::archive::{Compression, UnpackOptions, unpack};
use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::blocking;
use crate::error::ApiError;
use crate::parse::Remote;
use crate::transfer::Upload;

/// The longest context that is downloaded, compressed, in bytes.
const DOWNLOAD_MAX: u64 = 8 << 30;
/// The longest Dockerfile behind an address, in bytes.
const DOCKERFILE_MAX: u64 = 4 << 20;
/// How long a server may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Where a tar archive says that it is one (POSIX.1-1988).
const TAR_MAGIC: std::ops::Range<usize> = 257..262;
/// Ways that git may fetch by; the others run programs or read files of this host.
const GIT_PROTOCOLS: &str = "git:http:https:ssh";
/// Bytes of git's complaint that are shown.
const COMPLAINT_MAX: usize = 4096;

/// A directory with a build's files.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) directory: PathBuf,
    /// Where the Dockerfile is, if the context itself says so.
    pub(crate) dockerfile: Option<String>,
}

impl Context {
    /// Brings the files below `scratch`.
    pub(crate) async fn fetch(remote: &Remote, body: Upload, scratch: PathBuf) -> Result<Self, ApiError> {
        let directory = scratch.join("context");
        fs::create_dir(&directory).map_err(|error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", directory.display()))
        })?;
        match remote {
            Remote::Body => {
                let Upload { reader, copy } = body;
                let target = directory.clone();
                let unpacked = blocking(move || {
                    unpack(reader, &target, &UnpackOptions { rooted: true, ..UnpackOptions::default() })
                });
                let (unpacked, copied) = tokio::join!(unpacked, copy);
                copied?;
                match unpacked {
                    Ok(_) => Ok(Self { directory, dockerfile: None }),
                    Err(source) => Err(ApiError::Context { path: directory, source }),
                }
            }
            Remote::Url(url) => download(url, &scratch, directory).await,
            Remote::Git { url, reference, directory: below } => {
                clone(url, reference.as_deref(), &directory).await?;
                let directory = match below {
                    Some(below) => subdirectory(&directory, below)?,
                    None => directory,
                };
                Ok(Self { directory, dockerfile: None })
            }
        }
    }
}

async fn download(url: &str, scratch: &Path, directory: PathBuf) -> Result<Context, ApiError> {
    let failed = |error: reqwest::Error| {
        ApiError::Invalid(format!("error downloading remote context {url}: {}", with_causes(&error)))
    };
    let client = reqwest::Client::builder().read_timeout(SILENCE_MAX).connect_timeout(SILENCE_MAX);
    let answer = client.build().map_err(failed)?.get(url).send().await.map_err(failed)?;
    let answer = answer.error_for_status().map_err(failed)?;
    let path = scratch.join("download");
    let mut file = tokio::fs::File::create_new(&path).await?;
    let (mut pieces, mut length) = (answer.bytes_stream(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(failed)?;
        length += piece.len() as u64;
        if length > DOWNLOAD_MAX {
            return Err(ApiError::Invalid(format!("{url} is longer than {DOWNLOAD_MAX} bytes")));
        }
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    let url = url.to_owned();
    blocking(move || {
        let mut file = fs::File::open(&path)?;
        let mut start = Vec::new();
        (&mut file).take(TAR_MAGIC.end as u64).read_to_end(&mut start)?;
        file.rewind()?;
        let is_archive = Compression::detect(&start) != Compression::None
            || start.get(TAR_MAGIC).is_some_and(|magic| magic == b"ustar");
        if is_archive {
            unpack(file, &directory, &UnpackOptions { rooted: true, ..UnpackOptions::default() })?;
            return Ok(Context { directory, dockerfile: None });
        }
        if length > DOCKERFILE_MAX {
            let text = format!("{url} is neither an archive nor a Dockerfile: it has {length} bytes");
            return Err(ApiError::Invalid(text));
        }
        fs::rename(&path, directory.join("Dockerfile"))?;
        Ok(Context { directory, dockerfile: Some("Dockerfile".to_owned()) })
    })
    .await
}

/// Fetches one state of a repository, as Docker does, by the git program.
async fn clone(url: &str, reference: Option<&str>, directory: &Path) -> Result<(), ApiError> {
    git(directory, &["init", "--quiet"]).await?;
    git(directory, &["remote", "add", "origin", "--", url]).await?;
    let reference = reference.unwrap_or("HEAD");
    // A server of plain files cannot give a part of the history.
    let shallow = git(directory, &["fetch", "--quiet", "--depth", "1", "origin", "--", reference]).await;
    if shallow.is_err() {
        git(directory, &["fetch", "--quiet", "origin", "--", reference]).await?;
    }
    git(directory, &["checkout", "--quiet", "--force", "FETCH_HEAD"]).await?;
    let update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"];
    git(directory, &update).await?;
    fs::remove_dir_all(directory.join(".git"))?;
    Ok(())
}

async fn git(directory: &Path, arguments: &[&str]) -> Result<(), ApiError> {
    let mut command = tokio::process::Command::new("git");
    command.arg("-C").arg(directory).args(["-c", "core.symlinks=true"]).args(arguments);
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_ALLOW_PROTOCOL", GIT_PROTOCOLS);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", directory.with_file_name("nobody"));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|e| {
        ApiError::Unsupported(format!("a git context without the git program ({e}): install git; it"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = &output.stderr[..output.stderr.len().min(COMPLAINT_MAX)];
    let complaint = String::from_utf8_lossy(complaint);
    Err(ApiError::Invalid(format!("error fetching: {}", complaint.trim())))
}

/// A directory of a repository, which no link may lead out of.
fn subdirectory(repository: &Path, below: &str) -> Result<PathBuf, ApiError> {
    let invalid = || ApiError::Invalid(format!("error setting git context directory: {below:?}"));
    let root = repository.canonicalize()?;
    let directory = root.join(below.trim_start_matches('/')).canonicalize().map_err(|_| invalid())?;
    if !directory.starts_with(&root) || !directory.is_dir() {
        return Err(invalid());
    }
    Ok(directory)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
