//! What a build is sent: a directory without what its `.dockerignore` names, as a tar archive; an archive as it is.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use engine::build::Ignore;
use tar::Builder;

use crate::archive::{self, Owner};
use crate::client::{Body, copy_in, produced};
use crate::streams;

/// The name of a Dockerfile that is not in the context.
const OUTSIDE: &str = ".dockerfile";
/// What is read of standard input to tell an archive from a Dockerfile.
const BLOCK: u64 = 512;

/// Where a build's files come from.
pub(super) enum Source {
    /// The daemon fetches it.
    Remote(String),
    Archive(Body),
    Directory {
        body: Body,
        dockerfile: String,
    },
}

/// Finds out what `build` is to be given.
pub(super) fn open(context: &str, file: Option<&str>) -> anyhow::Result<Source> {
    if context == "-" {
        ensure!(file != Some("-"), "invalid argument: can't use stdin for both build context and dockerfile");
        return from_stdin(file);
    }
    let remote = ["http://", "https://", "git://", "git@", "github.com/"];
    if remote.iter().any(|start| context.starts_with(start)) && !Path::new(context).exists() {
        ensure!(file != Some("-"), "the Dockerfile for a remote context cannot be read from stdin");
        return Ok(Source::Remote(context.to_owned()));
    }
    directory(Path::new(context), file)
}

fn from_stdin(file: Option<&str>) -> anyhow::Result<Source> {
    ensure!(!streams::stdin_is_terminal(), "requested a build context from stdin, but stdin is a terminal");
    let mut first = Vec::new();
    io::stdin().take(BLOCK).read_to_end(&mut first)?;
    let rest = io::Cursor::new(first.clone()).chain(io::stdin());
    if is_archive(&first) {
        return Ok(Source::Archive(copy_in(rest)));
    }
    ensure!(file.is_none(), "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles");
    Ok(Source::Directory { body: alone(rest), dockerfile: "Dockerfile".to_owned() })
}

/// The signatures of gzip, bzip2, xz and zstd; a tar archive has its own further on.
fn is_archive(block: &[u8]) -> bool {
    let compressed: [&[u8]; 4] = [&[0x1f, 0x8b, 8], b"BZh", b"\xfd7zXZ\0", &[0x28, 0xb5, 0x2f, 0xfd]];
    compressed.iter().any(|start| block.starts_with(start)) || block.get(257..262) == Some(b"ustar")
}

/// A context with nothing but a Dockerfile.
fn alone(mut text: impl Read + Send + 'static) -> Body {
    produced(move |pieces| {
        let mut whole = Vec::new();
        text.read_to_end(&mut whole)?;
        let mut archive = Builder::new(pieces);
        archive::append_bytes(&mut archive, "Dockerfile", &whole)?;
        archive.finish()
    })
}

fn directory(context: &Path, file: Option<&str>) -> anyhow::Result<Source> {
    let context = match context.canonicalize() {
        Ok(path) => path,
        Err(_) => bail!("unable to prepare context: path {:?} not found", context.display().to_string()),
    };
    ensure!(
        context.is_dir(),
        "unable to prepare context: context must be a directory: {}",
        context.display()
    );
    let mut outside = None;
    let dockerfile = match file {
        Some("-") => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text)?;
            outside = Some(text);
            PathBuf::from(OUTSIDE)
        }
        given => {
            let path = match given {
                None => context.join("Dockerfile"),
                // As Docker: from here, or else from the context.
                Some(path) if Path::new(path).exists() => PathBuf::from(path),
                Some(path) => context.join(path),
            };
            let missing = || {
                format!(
                    "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}",
                    path.display()
                )
            };
            let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let directory = directory.canonicalize().with_context(missing)?;
            let whole = directory.join(path.file_name().unwrap_or_default());
            fs::metadata(&whole).with_context(missing)?;
            if let Ok(inside) = whole.strip_prefix(&context) {
                inside.to_owned()
            } else {
                outside = Some(fs::read(&whole).with_context(missing)?);
                PathBuf::from(OUTSIDE)
            }
        }
    };
    let ignore = Ignore::load(&context, &context.join(&dockerfile), |path| fs::read(path))?;
    let dockerfile = dockerfile.to_string_lossy().into_owned();
    let kept = [dockerfile.clone(), ".dockerignore".to_owned(), format!("{dockerfile}.dockerignore")];
    let body = produced(move |pieces| {
        let mut archive = Builder::new(pieces);
        if let Some(text) = &outside {
            archive::append_bytes(&mut archive, OUTSIDE, text)?;
        }
        let mut walk = Walk { context: &context, ignore: &ignore, kept: &kept, archive: &mut archive };
        walk.directory(Path::new(""))?;
        archive.finish()
    });
    Ok(Source::Directory { body, dockerfile })
}

struct Walk<'a, W: io::Write> {
    context: &'a Path,
    ignore: &'a Ignore,
    /// What the build needs though it may be ignored.
    kept: &'a [String],
    archive: &'a mut Builder<W>,
}

impl<W: io::Write> Walk<'_, W> {
    fn directory(&mut self, directory: &Path) -> io::Result<()> {
        let whole = self.context.join(directory);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", whole.display()));
        let mut entries: Vec<_> =
            fs::read_dir(&whole).map_err(named)?.collect::<Result<_, _>>().map_err(named)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = directory.join(entry.file_name());
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // It has gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(named(error)),
            };
            let name = path.to_string_lossy();
            let needed = self.kept.iter().any(|kept| *kept == name);
            let ignored = !needed && self.ignore.is_ignored(&name);
            if !ignored {
                let whole = self.context.join(&path);
                archive::append(self.archive, &whole, &path, &metadata, Owner::Root)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", whole.display())))?;
            }
            if metadata.is_dir() {
                let within = |kept: &String| Path::new(kept).starts_with(&path);
                if !ignored || self.ignore.may_have_exceptions(&name) || self.kept.iter().any(within) {
                    self.directory(&path)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn names(source: Source) -> (Vec<String>, String) {
        let Source::Directory { body, dockerfile } = source else { panic!("no directory") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names =
            archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        (names, dockerfile)
    }

    #[test]
    fn what_is_ignored_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Dockerfile", "FROM scratch\n");
        write(".dockerignore", "*\n!src\nsrc/*.o\n!out/kept\n");
        write("src/main.c", "");
        write("src/main.o", "");
        write("out/kept", "");
        write("out/other", "");
        write("other", "");
        let context = dir.path().to_str().unwrap();
        let (all, dockerfile) = names(open(context, None).unwrap());
        assert_eq!(all, [".dockerignore", "Dockerfile", "out/kept", "src", "src/main.c"]);
        assert_eq!(dockerfile, "Dockerfile");
        let outside = tempfile::NamedTempFile::new().unwrap();
        let (all, dockerfile) = names(open(context, outside.path().to_str()).unwrap());
        assert_eq!((all[0].as_str(), dockerfile.as_str()), (".dockerfile", ".dockerfile"));
    }

    #[test]
    fn a_context_that_is_none_is_refused() {
        let error = |context: &str| open(context, None).err().unwrap().to_string();
        assert_eq!(error("/no/such/place"), "unable to prepare context: path \"/no/such/place\" not found");
        assert!(error("/etc/hostname").contains("context must be a directory"));
        assert!(error("/proc/self/fdinfo").contains("unable to evaluate symlinks in Dockerfile path"));
    }

    #[test]
    fn archives_are_told_from_dockerfiles() {
        let mut archive = Builder::new(Vec::new());
        archive::append_bytes(&mut archive, "Dockerfile", b"FROM scratch").unwrap();
        assert!(is_archive(&archive.into_inner().unwrap()));
        assert!(is_archive(&[0x1f, 0x8b, 8, 0]) && !is_archive(b"FROM scratch\n"));
    }
}
