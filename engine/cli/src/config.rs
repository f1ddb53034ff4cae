//! The configuration file of Docker's clients: `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`.
//!
//! Members that are not known here are kept as they are when it is written, by `login` and `logout`.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value};

use crate::output;

/// Who may read it: there may be passwords in it.
const MODE: u32 = 0o600;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Config {
    path: PathBuf,
    values: Map<String, Value>,
}

impl Config {
    /// Reads it from a directory, `--config`, or from where it is by default. One that cannot be read is told of, and
    /// taken for empty.
    pub(crate) fn load(directory: Option<&Path>) -> Self {
        let path = directory.map(Path::to_owned).unwrap_or_else(default_directory).join("config.json");
        let warn = |what: &dyn std::fmt::Display| {
            output::complain(format_args!("WARNING: Error loading config file: {}: {what}", path.display()));
        };
        let values = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(error) => {
                warn(&error);
                Map::new()
            }
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                warn(&error);
                Map::new()
            }),
        };
        Self { path, values }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A setting that is text, unless it is empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// An object of the file.
    pub(crate) fn object(&self, name: &str) -> Option<&Map<String, Value>> {
        self.values.get(name)?.as_object()
    }

    /// An object of the file to be changed, made if there is none.
    pub(crate) fn object_mut(&mut self, name: &str) -> Option<&mut Map<String, Value>> {
        self.values.entry(name).or_insert_with(|| Map::new().into()).as_object_mut()
    }

    /// Headers that go with each request.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let pairs = self.object("HttpHeaders").into_iter().flatten();
        pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The proxies that containers and builds of a daemon are to know, as environment variables.
    pub(crate) fn proxies(&self, daemon: &str) -> Vec<String> {
        const NAMES: [(&str, &str); 5] = [
            ("httpProxy", "HTTP_PROXY"),
            ("httpsProxy", "HTTPS_PROXY"),
            ("noProxy", "NO_PROXY"),
            ("ftpProxy", "FTP_PROXY"),
            ("allProxy", "ALL_PROXY"),
        ];
        let proxies = self.object("proxies");
        let Some(proxy) = proxies.and_then(|all| all.get(daemon).or_else(|| all.get("default"))) else {
            return Vec::new();
        };
        let of = |(key, name): (&str, &str)| {
            let value = proxy[key].as_str().filter(|value| !value.is_empty())?;
            Some([format!("{name}={value}"), format!("{}={value}", name.to_lowercase())])
        };
        NAMES.into_iter().filter_map(of).flatten().collect()
    }

    /// Writes it, whole or not at all.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let failed = || format!("write {}", self.path.display());
        std::fs::create_dir_all(directory).with_context(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
        let text = serde_json::to_string_pretty(&self.values)?.replace("  ", "\t");
        io::Write::write_all(&mut file, text.as_bytes()).with_context(failed)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(MODE)).with_context(failed)?;
        file.persist(&self.path).with_context(failed)?;
        Ok(())
    }
}

fn default_directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG").unwrap_or_else(|| set("HOME").unwrap_or_else(|| "/root".into()).join(".docker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"psFormat": "{{.ID}}", "plugins": {"x": {"y": "z"}}}"#).unwrap();
        let mut config = Config::load(Some(dir.path()));
        assert_eq!(config.text("psFormat"), Some("{{.ID}}"));
        config.object_mut("auths").unwrap().insert("r".to_owned(), Map::new().into());
        config.save().unwrap();
        let read: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"psFormat": "{{.ID}}", "plugins": {"x": {"y": "z"}}, "auths": {"r": {}}})
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn proxies_are_for_a_daemon_or_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"proxies": {"default": {"httpProxy": "http://p"}, "unix:///x": {"noProxy": "a,b"}}}"#;
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        let config = Config::load(Some(dir.path()));
        assert_eq!(config.proxies("tcp://y"), ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
        assert_eq!(config.proxies("unix:///x"), ["NO_PROXY=a,b", "no_proxy=a,b"]);
    }
}
