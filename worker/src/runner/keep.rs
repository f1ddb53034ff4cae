//! What outlives a job: caches, artifacts, test results.

use std::path::Path;

use engine::types::ContainerId;
use pipelines::WORKSPACE;

use super::attempt::Attempt;
use super::containers::Containers;
use crate::artifacts::{self, Patterns};
use crate::cache::hash_files;
use crate::event::{Event, Level, Phase, TestTotals};
use crate::inside::{Account, Inside};
use crate::junit;

impl Attempt<'_> {
    /// Restores the job's caches. One that cannot be is as good as one that is not there.
    pub(super) async fn restore_caches(&self, containers: &Containers<'_>) {
        if self.job.caches.is_empty() {
            return;
        }
        self.phase(Phase::RestoreCaches);
        self.with_caches(containers, |attempt, inside, account, key, paths| {
            let text = match attempt.settings.caches.restore(inside, account, key, paths) {
                Ok(true) => format!("cache {key} restored"),
                Ok(false) => format!("no cache {key} yet"),
                Err(error) => return attempt.notice(Level::Warning, crate::causes(&error)),
            };
            attempt.notice(Level::Info, text);
        })
        .await;
    }

    /// Keeps caches of a job that succeeded, and artifacts and test results of any.
    pub(super) async fn keep(&self, containers: &Containers<'_>, success: bool) -> Option<TestTotals> {
        let container = containers.job_container()?;
        if success && !self.job.caches.is_empty() {
            self.phase(Phase::SaveCaches);
            self.with_caches(containers, |attempt, inside, account, key, paths| {
                match attempt.settings.caches.save(inside, &account.home, key, paths) {
                    Ok(true) => attempt.notice(Level::Info, format!("cache {key} saved")),
                    Ok(false) => {}
                    Err(error) => attempt.notice(Level::Warning, crate::causes(&error)),
                }
            })
            .await;
        }
        self.job.artifacts.as_ref()?;
        self.phase(Phase::Artifacts);
        let inside = self.inside(container).await?;
        tokio::task::block_in_place(|| self.keep_artifacts(&inside))
    }

    fn keep_artifacts(&self, inside: &Inside) -> Option<TestTotals> {
        let wanted = self.job.artifacts.as_ref()?;
        let to = self.settings.artifacts.join(self.job.id.as_str());
        let keep = |patterns: &[String]| {
            let kept = Patterns::new(patterns)
                .and_then(|patterns| artifacts::keep(inside, Path::new(WORKSPACE), &patterns, &to));
            kept.inspect(|kept| {
                for pattern in &kept.unmatched {
                    self.notice(Level::Warning, format!("no file matches {pattern}"));
                }
            })
            .inspect_err(|error| self.notice(Level::Error, crate::causes(error)))
            .ok()
        };
        if let Some(kept) = keep(&wanted.paths).filter(|kept| !kept.files.is_empty()) {
            self.settings.reporter.report(Event::ArtifactsKept {
                job: self.job.id.clone(),
                files: kept.files.len() as u64,
                bytes: kept.bytes,
                directory: to.clone(),
            });
        }
        if wanted.junit.is_empty() {
            return None;
        }
        let mut totals = TestTotals::default();
        for path in keep(&wanted.junit)?.files {
            match artifacts::open(&to, &path)
                .map_err(|e| e.to_string())
                .and_then(|file| junit::parse(file).map_err(|e| crate::causes(&e)))
            {
                Ok(report) => {
                    junit::add(&mut totals, report.totals);
                    for test in report.failed {
                        self.notice(Level::Error, format!("test failed: {test}"));
                    }
                }
                Err(error) => self.notice(Level::Warning, format!("test report {}: {error}", path.display())),
            }
        }
        Some(totals)
    }

    async fn with_caches(
        &self,
        containers: &Containers<'_>,
        each: impl Fn(&Self, &Inside, &Account, &str, &[String]),
    ) {
        let Some(container) = containers.job_container() else { return };
        let Some(inside) = self.inside(container).await else { return };
        tokio::task::block_in_place(|| {
            let account = match inside.account(&containers.process_defaults()) {
                Ok(account) => account,
                Err(error) => return self.notice(Level::Warning, crate::causes(&error)),
            };
            for cache in &self.job.caches {
                match cache.key.resolve(|pattern| hash_files(&self.settings.snapshot, pattern)) {
                    Ok(key) => each(self, &inside, &account, &key, &cache.paths),
                    Err(error) => {
                        self.notice(Level::Warning, format!("cache key: {}", crate::causes(&error)));
                    }
                }
            }
        });
    }

    async fn inside(&self, container: ContainerId) -> Option<Inside> {
        match self.settings.engine.container_root(container).await {
            Ok(root) => Some(Inside::new(root)),
            Err(error) => {
                self.notice(Level::Error, crate::causes(&error));
                None
            }
        }
    }
}
