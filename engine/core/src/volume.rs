use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use engine_runtime::spec::{MountSource, Propagation};
use engine_types::SessionId;
use jiff::Timestamp;

use crate::catalog::{VolumeRow, from_json, to_json};
use crate::container::MountKind;
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::session::remove_dir;

/// In a volume's directory: what it was made with, if anything.
const OPTIONS: &str = "options.json";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where it is kept, if not below the engine's root: see [`Engine::create_volume_with`].
    pub options: BTreeMap<String, String>,
    /// Free text for tools.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
    /// What is mounted.
    pub directory: PathBuf,
}

impl Engine {
    /// Makes a volume, unless one of that name exists; its directory.
    pub async fn create_volume(&self, name: &str, session: Option<SessionId>) -> Result<PathBuf, Error> {
        let none = BTreeMap::new();
        self.make_volume(name, &none, &none, session).await.map(|(directory, _)| directory)
    }

    /// Makes a volume with labels, unless one of that name exists; whether it is new. With options it is kept elsewhere,
    /// as Docker's `local` driver has it: `type`, `o` and `device` are those of mount(8). Each of its containers mounts it by itself, so what is in memory is not shared.
    pub async fn create_volume_with(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<bool, Error> {
        if !options.is_empty() {
            VolumeDevice::parse(options)?;
        }
        self.make_volume(name, labels, options, None).await.map(|(_, new)| new)
    }

    /// What a volume was made with.
    pub(crate) fn volume_options(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        let path = self.volume_dir(name).join(OPTIONS);
        match fs::read_to_string(&path) {
            Ok(text) => from_json(&text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(e) => Err(e).at(path),
        }
    }

    async fn make_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
        session: Option<SessionId>,
    ) -> Result<(PathBuf, bool), Error> {
        if !crate::names::is_valid(name) {
            return Err(Error::InvalidName { what: "volume", name: name.to_owned() });
        }
        let new = self.catalog().insert_volume(name, &to_json(labels)?, session).await?;
        let data = self.volume_dir(name).join("_data");
        fs::create_dir_all(&data).at(&data)?;
        if new && !options.is_empty() {
            let path = self.volume_dir(name).join(OPTIONS);
            fs::write(&path, to_json(options)?).at(&path)?;
        }
        Ok((data, new))
    }

    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<Volume>, Error> {
        self.catalog().volumes().await?.into_iter().map(|row| self.volume_of(row)).collect()
    }

    /// Finds a volume by its name.
    pub async fn volume(&self, name: &str) -> Result<Volume, Error> {
        let row = self.catalog().volumes().await?.into_iter().find(|row| row.name == name);
        row.map_or_else(|| Err(Error::NoSuchVolume(name.to_owned())), |row| self.volume_of(row))
    }

    /// Removes a volume with all in it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let dir = self.volume_dir(name);
        blocking(move || remove_dir(&dir)).await?;
        self.catalog().delete_volume(name).await
    }

    /// Removes a volume that no container has among its mounts.
    pub async fn remove_unused_volume(&self, name: &str) -> Result<(), Error> {
        let volume = self.volume(name).await?.name;
        let has = |kind: &MountKind| matches!(kind, MountKind::Volume(other) if *other == volume);
        let containers = self.containers().await?.into_iter();
        let users = containers.filter(|c| c.config.mounts.iter().any(|mount| has(&mount.kind)));
        let containers: Vec<String> = users.map(|c| c.id.to_string()).collect();
        if !containers.is_empty() {
            return Err(Error::VolumeInUse { volume, containers });
        }
        self.remove_volume(&volume).await
    }

    fn volume_of(&self, row: VolumeRow) -> Result<Volume, Error> {
        let directory = self.volume_dir(&row.name).join("_data");
        let options = self.volume_options(&row.name)?;
        Ok(Volume {
            options,
            labels: from_json(&row.labels)?,
            created: row.created,
            name: row.name,
            directory,
        })
    }
}

/// Options by which no volume can be made. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeOptionError {
    /// There is no such option.
    #[error("invalid option: {0:?}")]
    Unknown(String),
    /// One is there without another that it needs.
    #[error("missing required option: {0:?}")]
    Missing(&'static str),
    /// Quotas take a file system that has them.
    #[error("quota size requested but no quota support")]
    Size,
}

/// What is mounted as a volume, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeDevice {
    kind: String,
    device: String,
    options: Vec<String>,
}

impl VolumeDevice {
    pub(crate) fn parse(given: &BTreeMap<String, String>) -> Result<Self, Error> {
        if let Some(name) =
            given.keys().find(|name| !matches!(name.as_str(), "type" | "o" | "device" | "size"))
        {
            return Err(VolumeOptionError::Unknown(name.clone()).into());
        }
        if given.contains_key("size") {
            return Err(VolumeOptionError::Size.into());
        }
        let needed = |name: &'static str| {
            given.get(name).filter(|value| !value.is_empty()).cloned().ok_or(VolumeOptionError::Missing(name))
        };
        let (device, kind) = (needed("device")?, needed("type")?);
        let options = given.get("o").map(String::as_str).unwrap_or_default();
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        Ok(Self { kind, device, options })
    }

    pub(crate) fn read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }

    pub(crate) fn source(&self) -> MountSource {
        let has = |name: &str| self.options.iter().any(|option| option == name);
        if has("bind") || has("rbind") {
            let recursive = has("rbind");
            return MountSource::Bind {
                source: PathBuf::from(&self.device),
                recursive,
                propagation: Propagation::Private,
            };
        }
        let pair = |option: &String| {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            (name.to_owned(), value.to_owned())
        };
        let known = |option: &&String| !matches!(option.as_str(), "ro" | "rw");
        MountSource::FileSystem {
            kind: self.kind.clone(),
            device: self.device.clone(),
            options: self.options.iter().filter(known).map(pair).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<VolumeDevice, Error> {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        VolumeDevice::parse(&pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn options_are_those_of_mount() {
        let bind = parse("type=none o=bind,ro device=/srv").unwrap();
        assert!(bind.read_only());
        assert!(
            matches!(bind.source(), MountSource::Bind { source, recursive: false, .. } if source == Path::new("/srv"))
        );
        let tmpfs = parse("type=tmpfs device=tmpfs o=size=1m,uid=5").unwrap().source();
        let options = [("size", "1m"), ("uid", "5")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        let expected =
            MountSource::FileSystem { kind: "tmpfs".into(), device: "tmpfs".into(), options: options.into() };
        assert_eq!(tmpfs, expected);
        for (bad, text) in [
            ("type=nfs", "missing required option: \"device\""),
            ("device=/x", "missing required option: \"type\""),
            ("x=y", "invalid option: \"x\""),
            ("type=none device=/x size=1", "quota size requested but no quota support"),
        ] {
            assert_eq!(parse(bad).unwrap_err().to_string(), text);
        }
    }
}
