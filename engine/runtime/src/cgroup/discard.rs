//! Limits that a host cannot set and that Docker does without, saying so.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Hierarchies, v1, v2};
use crate::spec::Resources;

impl Hierarchies {
    /// Takes away what this host cannot do; what Docker says of each.
    pub fn discard(&self, resources: &mut Resources) -> Vec<String> {
        let mut said = Vec::new();
        let is_v2 = matches!(self, Self::V2 { .. });
        if is_v2 && resources.swappiness.take().is_some() {
            said.push(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory \
                 swappiness discarded.",
            );
        }
        if is_v2 && std::mem::take(&mut resources.oom_kill_disable) {
            said.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
        }
        if resources.oom_kill_disable && resources.memory.is_none() {
            said.push(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
                 running out of resources.",
            );
        }
        if resources.block_io.weight.is_some() && !self.has_file("blkio", [&v1::WEIGHTS, &v2::WEIGHTS]) {
            resources.block_io.weight = None;
            said.push("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.");
        }
        let swap = [&["memory.memsw.limit_in_bytes"][..], &["memory.swap.max"]];
        if resources.memory.is_some() && resources.memory_swap.is_some() && !self.has_file("memory", swap) {
            resources.memory_swap = None;
            said.push(
                "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
                 without swap.",
            );
        }
        said.into_iter().map(str::to_owned).collect()
    }

    /// Whether a controller has one of these files, which v1 has in its root, v2 only below.
    fn has_file<'a>(&self, controller: &str, [v1, v2]: [&'a [&'a str]; 2]) -> bool {
        let has = |dir: &Path, names: &[&str]| names.iter().any(|name| dir.join(name).exists());
        match self {
            Self::V1 { controllers } => controllers.get(controller).is_some_and(|root| has(root, v1)),
            Self::V2 { root } => subdirectories(root).iter().any(|dir| has(dir, v2)),
            Self::None => false,
        }
    }
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_taken_away_and_said() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("some")).unwrap();
        fs::write(root.path().join("some/memory.swap.max"), "").unwrap();
        let v2 = Hierarchies::V2 { root: root.path().to_owned() };
        let mut resources = Resources {
            memory: Some(1 << 30),
            memory_swap: Some(2 << 30),
            swappiness: Some(5),
            oom_kill_disable: true,
            ..Resources::default()
        };
        resources.block_io.weight = Some(100);
        let said = v2.discard(&mut resources);
        assert_eq!(said.len(), 3, "{said:?}");
        let left = Resources { memory: Some(1 << 30), memory_swap: Some(2 << 30), ..Resources::default() };
        assert_eq!(resources, left);
    }
}
