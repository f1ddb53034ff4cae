//! Builds as Docker does them: each case of `cases/` is built by our engine and compared with what a real Docker made
//! of it. Needs root and the images of `make images`.
//!
//! A case is a directory, and adding one adds no code:
//!
//! ```text
//! Dockerfile        what is built, with the next file's doings as its context
//! context.sh        makes the context, in an empty directory; git keeps neither modes nor owners, links or times
//! flags             words for the build's command line
//! first/Dockerfile  an image to build first, over the same context: its name is that of the case
//! says              if the build fails: what both Docker and we have to say about it, a line each
//! docker.txt        what Docker made of it, see `record`
//! ```
//!
//! `docker.txt` is written by `make compat-record`, never by hand. Where we want to differ, `differences.txt` says how
//! and why; a difference that is no more fails the suite as well, so that the list only shrinks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod builder;
mod case;
mod differences;
mod ids;
mod ours;
mod record;

use std::sync::Mutex;
use std::thread;

use builder::{Base, Builder, Dockerd};
use case::Case;
use differences::Differences;
use ours::Ours;

/// Set by `make compat-record`: asks Docker and writes down what it makes of the cases.
const RECORD: &str = "COMPAT_RECORD";

#[test]
fn images_are_as_docker_builds_them() {
    let base = Base::new();
    if std::env::var_os(RECORD).is_some() {
        return record_all(&base);
    }
    let ours = Ours::new(&base);
    let differences = Differences::load();
    let cases = Case::all();
    differences.assert_cases_exist(&cases);
    let queue = Mutex::new(cases.iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = next(&queue) {
                    let found = differences.of(case, &case.recorded(), &record::of(&ours, &base, case));
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort_unstable();
    assert!(wrong.is_empty(), "{} of {} cases differ:\n\n{}", wrong.len(), cases.len(), wrong.join("\n\n"));
}

fn next<'a>(queue: &Mutex<std::slice::Iter<'a, Case>>) -> Option<&'a Case> {
    queue.lock().unwrap().next()
}

fn record_all(base: &Base) {
    let docker = Dockerd::start(base);
    for case in Case::all() {
        case.write_record(&record::of(&docker as &dyn Builder, base, &case));
    }
}
