use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

/// When all files of a context were last changed that its script gave no time of its own, long ago: what is newer was
/// written by the build.
const CONTEXT_SECONDS: i64 = 1_000_000_000;
/// Later than any time that scripts give, earlier than this code.
pub(crate) const LONG_AGO_SECONDS: i64 = 1_300_000_000;
const RECORD: &str = "docker.txt";

/// One directory of `cases/`.
pub(crate) struct Case {
    pub(crate) name: String,
    dir: PathBuf,
}

impl Case {
    /// All cases by name.
    pub(crate) fn all() -> Vec<Self> {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker_compat/cases");
        let dirs = fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path());
        let case = |dir: PathBuf| Self { name: dir.file_name().unwrap().to_str().unwrap().to_owned(), dir };
        let mut cases: Vec<_> = dirs.map(case).collect();
        cases.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    /// What Docker made of it.
    pub(crate) fn recorded(&self) -> Vec<String> {
        let path = self.dir.join(RECORD);
        let text = fs::read_to_string(&path);
        let text = text.unwrap_or_else(|e| panic!("{}: {e}: run make compat-record", path.display()));
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn write_record(&self, lines: &[String]) {
        fs::write(self.dir.join(RECORD), lines.join("\n") + "\n").unwrap();
    }

    /// Words for the command line.
    pub(crate) fn flags(&self) -> Vec<String> {
        let flags = self.optional("flags").unwrap_or_default();
        flags.split_whitespace().map(str::to_owned).collect()
    }

    /// What an error must say.
    pub(crate) fn says(&self) -> Vec<String> {
        self.optional("says").unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The Dockerfile of the image that is built first.
    pub(crate) fn first(&self) -> Option<String> {
        self.optional("first/Dockerfile")
    }

    /// Makes the context in an empty directory.
    pub(crate) fn write_context(&self, to: &Path) {
        if let Some(dockerfile) = self.optional("Dockerfile") {
            fs::write(to.join("Dockerfile"), dockerfile).unwrap();
        }
        let script = self.dir.join("context.sh");
        if script.exists() {
            let umask = "umask 022; . \"$1\"";
            let status = Command::new("sh").args(["-euc", umask, "sh"]).arg(&script).current_dir(to).status();
            assert!(status.unwrap().success(), "{}", script.display());
        }
        make_old(to);
    }

    fn optional(&self, name: &str) -> Option<String> {
        let path = self.dir.join(name);
        path.exists().then(|| fs::read_to_string(&path).unwrap())
    }
}

fn make_old(path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| make_old(&entry.unwrap().path()));
    }
    if meta.mtime() > LONG_AGO_SECONDS {
        let time = Timespec { tv_sec: CONTEXT_SECONDS, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}
