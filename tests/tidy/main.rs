//! Rules of the repository that the compiler does not check.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Each crate of the workspace with those of the workspace that it uses outside of its tests.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let uses = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let normal = dependencies.filter(|d| d["kind"].as_str() != Some("dev"));
        normal.filter_map(|d| d["name"].as_str()).filter(|n| names.contains(n)).map(str::to_owned).collect()
    };
    packages.iter().map(|p| (p["name"].as_str().unwrap().to_owned(), uses(p))).collect()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let table = fs::read_to_string(root().join("tests/tidy/edges.txt")).unwrap();
    let allowed: BTreeMap<&str, BTreeSet<&str>> = table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.collect())
        })
        .collect();
    for (name, used) in edges().into_iter().filter(|(name, _)| name != "tests") {
        let allowed =
            allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in tests/tidy/edges.txt"));
        for other in used {
            assert!(
                allowed.contains(other.as_str()),
                "{name} may not depend on {other} (tests/tidy/edges.txt)"
            );
        }
    }
}

#[test]
fn the_architecture_page_names_every_crate_and_only_what_exists() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mentioned: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    for path in mentioned.iter().filter(|text| is_path(text)) {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which does not exist");
    }
    for package in metadata()["packages"].as_array().unwrap() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let folder = manifest.parent().unwrap().strip_prefix(root()).unwrap().to_str().unwrap();
        assert!(mentioned.contains(folder), "ARCHITECTURE.md does not name {folder}");
    }
}

/// A path of this repository, rather than one on a user's machine, a type or a command.
fn is_path(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    text.contains('/')
        && ["engine", "pipelines", "worker", "tests", "demo"].contains(&first)
        && !text.contains(' ')
}

#[test]
fn unsafe_code_is_in_engine_sys_alone() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let own = file.strip_prefix(root()).unwrap();
        if own.starts_with("engine/sys") || own.starts_with("tests/tidy") {
            continue;
        }
        let found = text.lines().position(|line| {
            let code = line.trim_start();
            !code.starts_with("//")
                && (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl"))
        });
        assert!(
            found.is_none(),
            "{}:{}: unsafe outside engine/sys",
            own.display(),
            found.unwrap_or_default() + 1
        );
    }
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    // Spelt apart, so that this file does not find itself.
    let words = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for word in words {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files", "-z", "*.rs"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.split('\0').filter(|n| !n.is_empty()).map(|n| root().join(n)).filter(|p| p.exists()).collect()
}
