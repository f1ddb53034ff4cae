//! What a builder made of a case, as lines of text: the configuration, the files that each new layer has, and the
//! history; or that it failed.
//!
//! ```text
//! config Cmd ["/bin/sh"]
//! 1 /etc/ 0755 0:0 new
//! 1 /etc/file 0644 1000:50 @1000000000 5 sha256:…
//! 1 /etc/file user.key="value"
//! 1 /link -> file 0:0 new
//! 1 /name = /etc/file
//! 1 /etc/.wh.gone (whiteout)
//! 1 /null c1:3 0666 0:0 new
//! history 1 COPY file /etc/ # buildkit
//! fails with 1
//! # what it said, for the reader only
//! ```
//!
//! The first number is that of the layer. Times are those of contexts and of the base image, or else `new`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType, Header};

use crate::builder::{Base, Builder};
use crate::case::{Case, LONG_AGO_SECONDS};

const XATTR_RECORD: &str = "SCHILY.xattr.";
/// Comment of the steps that the build added to the base's history.
const STEP: &str = "buildkit.dockerfile.v0";

/// Builds a case and describes what came of it.
pub(crate) fn of(builder: &dyn Builder, base: &Base, case: &Case) -> Vec<String> {
    let context = builder.directory(&case.name);
    case.write_context(&context);
    if let Some(dockerfile) = case.first() {
        let first = builder.directory(&format!("{}.first", case.name));
        case.write_context(&first);
        std::fs::write(first.join("Dockerfile"), dockerfile).unwrap();
        let output = builder.build(&first, &format!("{}:first", case.name), &[]);
        assert!(output.status.success(), "{}, first: {}", case.name, said(&output));
    }
    let output = builder.build(&context, &case.name, &case.flags());
    let lines = if output.status.success() {
        image(&builder.save(&case.name), &base.diff_id)
    } else {
        failure(case, &output)
    };
    std::fs::remove_dir_all(context).unwrap();
    lines
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn failure(case: &Case, output: &Output) -> Vec<String> {
    let said = said(output);
    let mut lines = vec![format!("fails with {}", output.status.code().unwrap())];
    let missing = case.says().into_iter().filter(|words| !said.contains(words));
    lines.extend(missing.map(|words| format!("does not say {words}")));
    let mut text = said.lines().filter(|line| line.starts_with("ERROR") || line.starts_with("engine:"));
    lines.extend(text.next_back().map(|line| format!("# {}", without_chance(line))));
    lines
}

/// A message without the names that Docker makes up: of a reference, `x::y`, and of a directory in its storage.
fn without_chance(text: &str) -> String {
    let word = |word: &str| match word.split_once("/merged/") {
        Some((storage, path)) if storage.contains("/overlay2/") => format!("/{path}"),
        _ if word.contains("::") => "…:".to_owned(),
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Reads an archive as `docker save` writes them.
fn image(archive: &Path, base: &str) -> Vec<String> {
    let files = read_archive(archive);
    let json = |name: &str| -> Value {
        let mut value: Value = serde_json::from_slice(&files[Path::new(name)]).unwrap();
        value.sort_all_objects();
        value
    };
    let manifest = json("manifest.json")[0].take();
    let config = json(manifest["Config"].as_str().unwrap());
    let mut lines = configuration(&config);
    let layers = manifest["Layers"].as_array().unwrap().iter();
    let added = layers
        .zip(config["rootfs"]["diff_ids"].as_array().unwrap())
        .filter(|(_, diff_id)| *diff_id != base)
        .map(|(layer, _)| &files[Path::new(layer.as_str().unwrap())]);
    for (number, layer) in added.enumerate() {
        lines.extend(layer_lines(layer).into_iter().map(|line| format!("{} {line}", number + 1)));
    }
    let history = config["history"].as_array().into_iter().flatten();
    for (number, step) in history.filter(|step| step["comment"] == STEP).enumerate() {
        let empty = if step["empty_layer"] == true { " (no layer)" } else { "" };
        let text = step["created_by"].as_str().unwrap().replace('\n', "\\n");
        lines.push(format!("history {} {text}{empty}", number + 1));
    }
    lines
}

fn read_archive(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut archive = Archive::new(std::fs::File::open(path).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(entry.path().unwrap().into_owned(), content);
    }
    files
}

fn configuration(config: &Value) -> Vec<String> {
    let mut lines = vec![format!("platform {}/{}", string(&config["os"]), string(&config["architecture"]))];
    if config["author"].is_string() {
        lines.push(format!("author {}", string(&config["author"])));
    }
    let fields = config["config"].as_object().unwrap();
    let sorted: BTreeMap<_, _> = fields.iter().filter(|(_, value)| says_something(value)).collect();
    lines.extend(sorted.into_iter().map(|(name, value)| format!("config {name} {value}")));
    lines
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Not `null`, `false` or `""`. An empty list differs from none: it takes away what the base has.
fn says_something(value: &Value) -> bool {
    !(value.is_null()
        || value == false
        || value == ""
        || value.as_object().is_some_and(serde_json::Map::is_empty))
}

/// One entry of a layer.
struct Entry {
    line: String,
    xattrs: Vec<String>,
    link_to: Option<String>,
}

fn layer_lines(layer: &[u8]) -> Vec<String> {
    let mut archive = Archive::new(layer);
    let mut entries = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = absolute(&entry.path_bytes());
        let is_link = entry.header().entry_type() == EntryType::Link;
        let link_to = is_link.then(|| absolute(&entry.link_name_bytes().unwrap()));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let target = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
        if name.contains("/.wh.") {
            // What its header says has no meaning.
            entries.insert(name, Entry { line: " (whiteout)".to_owned(), xattrs: Vec::new(), link_to: None });
            continue;
        }
        let line = describe(entry.header(), target.as_deref(), &content);
        let mut xattrs = Vec::new();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            if let Some(key) = extension.key().unwrap().strip_prefix(XATTR_RECORD) {
                let value = String::from_utf8_lossy(extension.value_bytes()).into_owned();
                xattrs.push(format!("{key}={value:?}"));
            }
        }
        entries.insert(name, Entry { line, xattrs, link_to });
    }
    name_first_of_links(&mut entries);
    let mut lines = Vec::new();
    for (name, Entry { line, mut xattrs, link_to }) in entries {
        match link_to {
            Some(first) => lines.push(format!("{name} = {first}")),
            None => lines.push(format!("{name}{line}")),
        }
        xattrs.sort_unstable();
        lines.extend(xattrs.into_iter().map(|xattr| format!("{name} {xattr}")));
    }
    lines
}

/// Which of a file's names stands for it in an archive is chance; here it is the first.
fn name_first_of_links(entries: &mut BTreeMap<String, Entry>) {
    let holders: Vec<String> = entries
        .values()
        .filter_map(|entry| entry.link_to.clone())
        .filter(|to| entries.contains_key(to))
        .collect();
    for holder in holders {
        let first = entries.iter().find(|(_, entry)| entry.link_to.as_deref() == Some(&holder));
        let Some(first) = first.map(|(name, _)| name.clone()).filter(|first| *first < holder) else {
            continue;
        };
        let mut content = entries.remove(&holder).unwrap();
        for entry in entries.values_mut().filter(|entry| entry.link_to.as_deref() == Some(&holder)) {
            entry.link_to = Some(first.clone());
        }
        let line = std::mem::take(&mut content.line);
        let xattrs = std::mem::take(&mut content.xattrs);
        entries
            .insert(holder, Entry { line: String::new(), xattrs: Vec::new(), link_to: Some(first.clone()) });
        entries.insert(first, Entry { line, xattrs, link_to: None });
    }
}

fn absolute(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    format!("/{}", name.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/'))
}

fn describe(header: &Header, target: Option<&str>, content: &[u8]) -> String {
    let kind = header.entry_type();
    let mtime = i64::try_from(header.mtime().unwrap()).unwrap();
    let mtime = if mtime < LONG_AGO_SECONDS { format!("@{mtime}") } else { "new".to_owned() };
    let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
    let mode = format!("{:04o}", header.mode().unwrap() & 0o7777);
    let device = |kind| {
        let (major, minor) =
            (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
        format!(" {kind}{major}:{minor} {mode} {owner} {mtime}")
    };
    match kind {
        EntryType::Directory => format!("/ {mode} {owner} {mtime}"),
        EntryType::Symlink => format!(" -> {} {owner} {mtime}", target.unwrap()),
        EntryType::Char => device('c'),
        EntryType::Block => device('b'),
        EntryType::Fifo => format!(" fifo {mode} {owner} {mtime}"),
        _ => {
            let digest = &hex::encode(Sha256::digest(content))[..16];
            format!(" {mode} {owner} {mtime} {} sha256:{digest}", content.len())
        }
    }
}
