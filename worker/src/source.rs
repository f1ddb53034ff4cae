//! What git knows of the checkout that a pipeline file is in.

use std::path::{Path, PathBuf};

use git2::{Repository, RepositoryOpenFlags};
use pipelines::{Context, Event};

/// A checkout, or a plain directory: then it is the file's own, and git's facts are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    root: PathBuf,
    repo: String,
    commit: String,
    branch: String,
    tag: String,
}

/// A checkout that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file's directory cannot be found.
    #[error("{path}")]
    Path {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Git's data is damaged.
    #[error("read the git repository of {path}")]
    Git {
        /// The checkout.
        path: PathBuf,
        /// Why.
        source: git2::Error,
    },
}

impl Source {
    /// Looks at the checkout that a pipeline file is in.
    pub fn of(file: &Path) -> Result<Self, SourceError> {
        let path = file.canonicalize().map_err(|source| SourceError::Path { path: file.to_owned(), source })?;
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        let found = Repository::open_ext(&dir, RepositoryOpenFlags::empty(), std::iter::empty::<&Path>());
        let failed = |source| SourceError::Git { path: dir.clone(), source };
        match found {
            Ok(repository) => Self::read(&repository, &dir).map_err(failed),
            Err(e) if e.code() == git2::ErrorCode::NotFound => Ok(Self::plain(dir)),
            Err(e) => Err(failed(e)),
        }
    }

    /// The checkout's root directory, or the file's directory outside of git.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The repository's name.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// What a run of it is about.
    pub fn context(&self, event: Event, run: &str) -> Context {
        Context {
            event,
            commit: self.commit.clone(),
            branch: self.branch.clone(),
            tag: self.tag.clone(),
            repo: self.repo.clone(),
            run: run.to_owned(),
            arch: engine_image::Platform::host().architecture,
            ..Context::default()
        }
    }

    fn plain(root: PathBuf) -> Self {
        let repo = directory_name(&root);
        Self { root, repo, commit: String::new(), branch: String::new(), tag: String::new() }
    }

    fn read(repository: &Repository, dir: &Path) -> Result<Self, git2::Error> {
        let root = repository.workdir().unwrap_or(dir).to_owned();
        let root = root.canonicalize().unwrap_or(root);
        let head = match repository.head() {
            Ok(head) => Some(head),
            // A repository without a commit.
            Err(e) if matches!(e.code(), git2::ErrorCode::UnbornBranch | git2::ErrorCode::NotFound) => None,
            Err(e) => return Err(e),
        };
        let commit = head.as_ref().map(git2::Reference::peel_to_commit).transpose()?;
        let branch = head.as_ref().filter(|head| head.is_branch()).and_then(|head| head.shorthand().ok());
        let tag = commit.as_ref().and_then(|commit| tag_at(repository, commit.id()));
        let remote = repository.find_remote("origin").ok();
        let name = remote.as_ref().and_then(|remote| remote.url().ok()).and_then(name_of_url);
        Ok(Self {
            repo: name.unwrap_or_else(|| directory_name(&root)),
            commit: commit.map(|commit| commit.id().to_string()).unwrap_or_default(),
            branch: branch.unwrap_or_default().to_owned(),
            tag: tag.unwrap_or_default(),
            root,
        })
    }
}

/// The first tag, by name, that is on this commit.
fn tag_at(repository: &Repository, commit: git2::Oid) -> Option<String> {
    let names = repository.tag_names(None).ok()?;
    let names: Vec<String> = names.iter().filter_map(|name| name.ok().flatten().map(str::to_owned)).collect();
    names.into_iter().find(|name| {
        let reference = repository.find_reference(&format!("refs/tags/{name}"));
        reference.and_then(|r| r.peel_to_commit()).is_ok_and(|tagged| tagged.id() == commit)
    })
}

/// `owner/name` of `https://host/owner/name.git`, `git@host:owner/name.git` and the like.
fn name_of_url(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url.rsplit_once(':').map_or(url, |(_, path)| path),
    };
    let path = path.trim_end_matches('/').trim_end_matches(".git").trim_start_matches('/');
    let parts: Vec<&str> = path.rsplit('/').take(2).collect();
    let name = parts.into_iter().rev().collect::<Vec<_>>().join("/");
    (!name.is_empty()).then_some(name)
}

fn directory_name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| "repository".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_urls() {
        for (url, name) in [
            ("https://forge.example/shop/web.git", "shop/web"),
            ("git@forge.example:shop/web.git", "shop/web"),
            ("ssh://git@forge.example:22/group/sub/web", "sub/web"),
            ("/srv/git/web.git", "git/web"),
        ] {
            assert_eq!(name_of_url(url).as_deref(), Some(name), "{url}");
        }
    }

    #[test]
    fn a_plain_directory_is_a_source_without_facts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pipeline.yaml"), "").unwrap();
        let source = Source::of(&dir.path().join("pipeline.yaml")).unwrap();
        assert_eq!((source.commit.as_str(), source.branch.as_str()), ("", ""));
        assert_eq!(source.root(), dir.path().canonicalize().unwrap());
    }

    #[test]
    fn a_checkout_tells_branch_commit_and_tag() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init(dir.path()).unwrap();
        repository.set_head("refs/heads/trunk").unwrap();
        std::fs::create_dir(dir.path().join("ci")).unwrap();
        let file = dir.path().join("ci/pipeline.yaml");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Source::of(&file).unwrap().commit, "", "no commit yet");
        let tree = repository.find_tree(repository.index().unwrap().write_tree().unwrap()).unwrap();
        let who = git2::Signature::now("a", "a@localhost").unwrap();
        let commit = repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[]).unwrap();
        repository.tag_lightweight("v1", &repository.find_object(commit, None).unwrap(), false).unwrap();
        let source = Source::of(&file).unwrap();
        let facts = (source.branch.as_str(), source.tag.as_str(), source.commit.clone());
        assert_eq!(facts, ("trunk", "v1", commit.to_string()));
        assert_eq!(source.root(), dir.path().canonicalize().unwrap());
    }
}
