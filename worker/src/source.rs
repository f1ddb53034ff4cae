//! Facts of the checkout that contains a pipeline file.
//!
//! Outside a git repository everything works as well: the file's directory is the root, and the facts are empty.

use std::io;
use std::path::{Path, PathBuf};

use engine::types::ErrorKind;
use git2::{DescribeOptions, ErrorClass, ErrorCode, ObjectType, Repository, StatusOptions};
use pipelines::{Context, Event};

/// What tells a repository's root: a directory, or a file that names one (a linked worktree, a submodule).
const DOT_GIT: &str = ".git";

/// A checkout and what it is of. What does not apply is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    root: PathBuf,
    is_git: bool,
    commit: String,
    branch: String,
    tag: String,
    repo: String,
}

/// Why the facts of a checkout are not known.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The pipeline file's directory does not exist or cannot be entered.
    #[error("{path}")]
    Directory {
        /// The pipeline file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is a `.git` that is no repository, or one of an unknown format.
    #[error("failed to open the git repository at {path}")]
    Open {
        /// The checkout's root.
        path: PathBuf,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// The repository could not be read.
    #[error("failed to {action} of the git repository at {path}")]
    Read {
        /// The checkout's root.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What libgit2 says.
        source: git2::Error,
    },
}

impl SourceError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Directory { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorKind::Forbidden
            }
            Self::Directory { .. } => ErrorKind::Internal,
            Self::Open { .. } | Self::Read { .. } => ErrorKind::Corrupt,
        }
    }
}

impl Source {
    /// Finds the checkout that contains `file`.
    pub fn of(file: &Path) -> Result<Self, SourceError> {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir =
            dir.canonicalize().map_err(|source| SourceError::Directory { path: file.to_owned(), source })?;
        let root = dir.ancestors().find(|dir| dir.join(DOT_GIT).symlink_metadata().is_ok());
        match root {
            Some(root) => Self::of_repository(root),
            None => Ok(Self {
                repo: last_name(&dir),
                root: dir,
                is_git: false,
                commit: String::new(),
                branch: String::new(),
                tag: String::new(),
            }),
        }
    }

    fn of_repository(root: &Path) -> Result<Self, SourceError> {
        let read = |action| move |source| SourceError::Read { path: root.to_owned(), action, source };
        let repository = open(root)?;
        let (commit, branch) = head(&repository).map_err(read("read the head"))?;
        let tag = if commit.is_empty() {
            String::new()
        } else {
            tag(&repository).map_err(read("read the tags"))?
        };
        let repo = remote_name(&repository).map_err(read("read the remotes"))?;
        Ok(Self {
            root: root.to_owned(),
            is_git: true,
            commit,
            branch,
            tag,
            repo: repo.unwrap_or_else(|| directory_name(root, &repository)),
        })
    }

    /// The checkout's root directory, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The repository's name: `owner/name` from its remote, or else its directory's.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// What a run of this checkout is about.
    pub fn context(&self, event: Event, run: &str) -> Context {
        Context {
            event,
            commit: self.commit.clone(),
            branch: self.branch.clone(),
            tag: self.tag.clone(),
            repo: self.repo.clone(),
            run: run.to_owned(),
            arch: architecture().to_owned(),
            ..Context::default()
        }
    }

    /// Whether the checkout differs from its commit, untracked files included; not outside a repository.
    ///
    /// Compares every file, so that it takes a while in a large checkout.
    pub fn is_dirty(&self) -> Result<bool, SourceError> {
        if !self.is_git {
            return Ok(false);
        }
        let repository = open(&self.root)?;
        let read = |source| SourceError::Read { path: self.root.clone(), action: "read the status", source };
        repository.set_workdir(&self.root, false).map_err(read)?;
        let mut options = StatusOptions::new();
        options.include_untracked(true);
        let statuses = repository.statuses(Some(&mut options)).map_err(read)?;
        Ok(!statuses.is_empty())
    }
}

/// Opens the repository whose checkout is at `root`, whoever owns it.
///
/// libgit2 refuses a repository of another user, because git runs hooks and helpers that its configuration names. This
/// runs none of them, and as root it works on other users' checkouts all the time. Opening as a bare repository is
/// the way around that check which changes no setting of the process.
pub(crate) fn open(root: &Path) -> Result<Repository, SourceError> {
    let opened =
        Repository::discover_path(root, [root.parent().unwrap_or(root)]).and_then(Repository::open_bare);
    opened.map_err(|source| SourceError::Open { path: root.to_owned(), source })
}

/// The commit and the branch; without the commit on a branch that has none yet, without the branch on a detached head.
fn head(repository: &Repository) -> Result<(String, String), git2::Error> {
    let reference = repository.find_reference("HEAD")?;
    let target = reference.symbolic_target()?.unwrap_or_default();
    let branch = target.strip_prefix("refs/heads/").unwrap_or_default().to_owned();
    match reference.peel_to_commit() {
        Ok(commit) => Ok((commit.id().to_string(), branch)),
        Err(e) if matches!(e.code(), ErrorCode::NotFound | ErrorCode::UnbornBranch) => {
            Ok((String::new(), branch))
        }
        Err(e) => Err(e),
    }
}

/// The tag at the head, or of several the one that `git describe --tags --exact-match` names.
fn tag(repository: &Repository) -> Result<String, git2::Error> {
    let mut options = DescribeOptions::new();
    options.describe_tags().max_candidates_tags(0);
    let head = repository.head()?.peel(ObjectType::Commit)?;
    let described = head.describe(&options).and_then(|described| described.format(None));
    match described {
        // No tag there, or no tag at all.
        Err(e) if e.class() == ErrorClass::Describe => Ok(String::new()),
        other => other,
    }
}

/// The name in the address of `origin`, or else of the first remote.
fn remote_name(repository: &Repository) -> Result<Option<String>, git2::Error> {
    let remotes = repository.remotes()?;
    let mut names: Vec<&str> = remotes.iter().filter_map(Result::ok).flatten().collect();
    names.sort_by_key(|&name| name != "origin");
    let Some(name) = names.first() else { return Ok(None) };
    let remote = repository.find_remote(name)?;
    Ok(repo_name(remote.url()?))
}

/// `owner/name` of the repository at an address; of a path on this machine the last part alone.
fn repo_name(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let path = match url.split_once("://") {
        Some(("file", path)) => path.rsplit('/').next().unwrap_or(path),
        Some((_, rest)) => rest.split_once('/')?.1,
        None => match url.split_once(':') {
            // git's rule: a colon before any slash makes it `host:path`.
            Some((host, path)) if !host.contains('/') => path.trim_start_matches('/'),
            _ => url.rsplit('/').next().unwrap_or(url),
        },
    };
    let name = path.trim_end_matches('/').trim_end_matches(".git").trim_end_matches('/');
    (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
}

/// The name of the directory that has the repository: of a linked worktree, the main one's.
fn directory_name(root: &Path, repository: &Repository) -> String {
    let common = repository.commondir();
    let main = if common.ends_with(DOT_GIT) { common.parent() } else { None };
    last_name(main.unwrap_or(root))
}

fn last_name(dir: &Path) -> String {
    dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// This machine's processor architecture, by the name that image registries use (Go's GOARCH).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_git::{commit_all, git, repository};

    #[test]
    fn outside_a_repository_the_directory_is_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::of(&dir.path().join("pipeline.yaml")).unwrap();
        assert_eq!(source.root(), dir.path().canonicalize().unwrap());
        assert_eq!(source.repo(), dir.path().file_name().unwrap().to_str().unwrap());
        let context = source.context(Event::Manual, "r1");
        assert_eq!((context.commit.as_str(), context.branch.as_str(), context.run.as_str()), ("", "", "r1"));
        assert!(!source.is_dirty().unwrap());
    }

    #[test]
    fn a_directory_that_is_absent_is_named() {
        let error = Source::of(Path::new("/absent/pipeline.yaml")).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.kind()),
            ("/absent/pipeline.yaml", ErrorKind::NotFound)
        );
    }

    #[test]
    fn finds_the_repository_around_a_file() {
        let dir = repository();
        fs::create_dir(dir.path().join("ci")).unwrap();
        let commit = commit_all(dir.path());
        git(dir.path(), &["tag", "light"]);
        git(dir.path(), &["tag", "-m", "one", "v1"]);
        let source = Source::of(&dir.path().join("ci/pipeline.yaml")).unwrap();
        assert_eq!(source.root(), dir.path().canonicalize().unwrap());
        let context = source.context(Event::Manual, "");
        assert_eq!(context.commit, commit);
        assert_eq!((context.branch.as_str(), context.tag.as_str()), ("main", "v1"));
        assert!(!context.arch.is_empty());
        assert!(!source.is_dirty().unwrap());
        fs::write(dir.path().join("new"), "").unwrap();
        assert!(source.is_dirty().unwrap());
    }

    #[test]
    fn a_detached_head_has_no_branch_and_an_unborn_branch_no_commit() {
        let dir = repository();
        let file = dir.path().join("pipeline.yaml");
        let context = Source::of(&file).unwrap().context(Event::Manual, "");
        assert_eq!((context.commit.as_str(), context.branch.as_str()), ("", "main"));
        let commit = commit_all(dir.path());
        git(dir.path(), &["checkout", "-q", "--detach"]);
        let context = Source::of(&file).unwrap().context(Event::Manual, "");
        assert_eq!((context.commit, context.branch.as_str()), (commit, ""));
    }

    #[test]
    fn a_linked_worktree_has_its_own_branch_and_the_name_of_the_main_one() {
        let dir = repository();
        let commit = commit_all(dir.path());
        let other = tempfile::tempdir().unwrap();
        let root = other.path().join("wt");
        git(dir.path(), &["worktree", "add", "-q", "-b", "feature/x", root.to_str().unwrap()]);
        let source = Source::of(&root.join("pipeline.yaml")).unwrap();
        assert_eq!(source.root(), root.canonicalize().unwrap());
        assert_eq!(source.repo(), dir.path().file_name().unwrap().to_str().unwrap());
        let context = source.context(Event::Manual, "");
        assert_eq!((context.commit, context.branch.as_str()), (commit, "feature/x"));
        assert!(!source.is_dirty().unwrap());
    }

    #[test]
    fn works_on_the_checkout_of_another_user() {
        let dir = repository();
        commit_all(dir.path());
        for path in [".git", "."] {
            let owner = rustix::fs::Uid::from_raw(12_345);
            let given = rustix::fs::chown(dir.path().join(path), Some(owner), None);
            given.expect("only root can give files away: run the tests as root");
        }
        let source = Source::of(&dir.path().join("pipeline.yaml")).unwrap();
        assert_eq!(source.context(Event::Manual, "").branch, "main");
        assert!(!source.is_dirty().unwrap());
    }

    #[test]
    fn a_broken_repository_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".git"), "gitdir: /absent\n").unwrap();
        let error = Source::of(&dir.path().join("pipeline.yaml")).unwrap_err();
        assert!(error.to_string().starts_with("failed to open the git repository at /"), "{error}");
    }

    #[test]
    fn names_come_from_the_remote() {
        let dir = repository();
        git(dir.path(), &["remote", "add", "fork", "https://example.com/me/shop"]);
        git(dir.path(), &["remote", "add", "origin", "git@example.com:them/shop.git"]);
        assert_eq!(Source::of(&dir.path().join("pipeline.yaml")).unwrap().repo(), "them/shop");
    }

    #[test]
    fn addresses_give_names() {
        let check = |url: &str, name: Option<&str>| assert_eq!(repo_name(url).as_deref(), name, "{url}");
        check("https://u:p@example.com:8443/group/sub/shop.git/", Some("group/sub/shop"));
        check("ssh://git@example.com/me/shop.git", Some("me/shop"));
        check("example.com:shop.git", Some("shop"));
        check("git@example.com:/srv/shop.git", Some("srv/shop"));
        check("/srv/git/shop.git", Some("shop"));
        check("file:///srv/git/shop", Some("shop"));
        check("../shop", Some("shop"));
        check("..", None);
        check("https://example.com", None);
        check("", None);
    }
}
