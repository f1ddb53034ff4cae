use serde_json::{Map, Value, json};

use super::csv;
use crate::units::parse_size;

/// Reads `type=bind,source=…,target=…,…` into the API's `Mount`.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".to_owned());
    }
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(text)? {
        mount.set(&field)?;
    }
    mount.finish()
}

#[derive(Debug, Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    rest: Map<String, Value>,
    bind: Map<String, Value>,
    volume: Map<String, Value>,
    driver: Map<String, Value>,
    tmpfs: Map<String, Value>,
    image: Map<String, Value>,
}

impl Mount {
    fn set(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        if key.trim() != key {
            return Err(format!(
                "invalid option '{}' in '{field}': option should not have whitespace",
                key.trim()
            ));
        }
        match value {
            Some(value) if value.trim().is_empty() => {
                return Err(format!("invalid value for '{key}': value is empty"));
            }
            Some(value) if value.trim() != value => {
                return Err(format!(
                    "invalid value for '{key}' in '{field}': value should not have whitespace"
                ));
            }
            _ => {}
        }
        let key = key.to_lowercase();
        let switch = || match value {
            None | Some("true" | "1") => Ok(json!(true)),
            Some("false" | "0") => Ok(json!(false)),
            Some(other) => Err(format!(
                "invalid value for '{key}': invalid boolean value ({other:?}): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")"
            )),
        };
        let switches = ["readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"];
        if value.is_none() && !switches.contains(&key.as_str()) {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        let text = value.unwrap_or_default();
        let put = |map: &mut Map<String, Value>, name: &str, value: Value| {
            map.insert(name.to_owned(), value);
        };
        match key.as_str() {
            "type" => self.kind = text.to_lowercase(),
            "source" | "src" if text.starts_with('.') => {
                let path = super::volume::absolute(text).map_err(|error| error.to_string())?;
                self.source = path.display().to_string();
            }
            "source" | "src" => self.source = text.to_owned(),
            "target" | "dst" | "destination" => self.target = text.to_owned(),
            "readonly" | "ro" => put(&mut self.rest, "ReadOnly", switch()?),
            "consistency" => put(&mut self.rest, "Consistency", text.to_lowercase().into()),
            "bind-propagation" => put(&mut self.bind, "Propagation", text.to_lowercase().into()),
            "bind-nonrecursive" => put(&mut self.bind, "NonRecursive", switch()?),
            "bind-create-src" => put(&mut self.bind, "CreateMountpoint", switch()?),
            "bind-recursive" => self.recursive(&key, text)?,
            "volume-subpath" => put(&mut self.volume, "Subpath", text.into()),
            "volume-nocopy" => put(&mut self.volume, "NoCopy", switch()?),
            "volume-label" => entry(&mut self.volume, "Labels", text),
            "volume-driver" => put(&mut self.driver, "Name", text.into()),
            "volume-opt" => entry(&mut self.driver, "Options", text),
            "image-subpath" => put(&mut self.image, "Subpath", text.into()),
            "tmpfs-size" => {
                let size = parse_size(text).map_err(|_| format!("invalid value for {key}: {text}"))?;
                put(&mut self.tmpfs, "SizeBytes", size.into());
            }
            "tmpfs-mode" => {
                let mode =
                    u32::from_str_radix(text, 8).map_err(|_| format!("invalid value for {key}: {text}"))?;
                put(&mut self.tmpfs, "Mode", mode.into());
            }
            _ => return Err(format!("unknown option '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn recursive(&mut self, key: &str, text: &str) -> Result<(), String> {
        let name = match text {
            "enabled" => return Ok(()),
            "disabled" => "NonRecursive",
            "writable" => "ReadOnlyNonRecursive",
            "readonly" => "ReadOnlyForceRecursive",
            _ => {
                return Err(format!(
                    "invalid value for {key}: {text} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        };
        self.bind.insert(name.to_owned(), true.into());
        Ok(())
    }

    fn finish(mut self) -> Result<Value, String> {
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        if !self.driver.is_empty() {
            self.volume.insert("DriverConfig".to_owned(), self.driver.into());
        }
        let mut mount = Map::new();
        mount.insert("Type".to_owned(), self.kind.clone().into());
        if !self.source.is_empty() {
            mount.insert("Source".to_owned(), self.source.into());
        }
        mount.insert("Target".to_owned(), self.target.into());
        mount.extend(self.rest);
        let options = [
            ("volume", "VolumeOptions", self.volume),
            ("bind", "BindOptions", self.bind),
            ("tmpfs", "TmpfsOptions", self.tmpfs),
            ("image", "ImageOptions", self.image),
        ];
        for (kind, name, options) in options {
            if options.is_empty() {
                continue;
            }
            if kind != self.kind {
                return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", self.kind));
            }
            mount.insert(name.to_owned(), options.into());
        }
        Ok(mount.into())
    }
}

/// Adds `name=value` to a map of options.
fn entry(map: &mut Map<String, Value>, name: &str, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let inner = map.entry(name).or_insert_with(|| json!({}));
    if let Some(inner) = inner.as_object_mut() {
        inner.insert(key.to_owned(), value.into());
    }
}
