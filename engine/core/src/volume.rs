use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use engine_types::SessionId;
use jiff::Timestamp;

use crate::catalog::{VolumeRow, from_json, to_json};
use crate::container::MountKind;
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::session::remove_dir;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
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
        self.make_volume(name, &BTreeMap::new(), session).await.map(|(directory, _)| directory)
    }

    /// Makes a volume with labels, unless one of that name exists; whether it is new.
    pub async fn create_labelled_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<bool, Error> {
        self.make_volume(name, labels, None).await.map(|(_, new)| new)
    }

    async fn make_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        session: Option<SessionId>,
    ) -> Result<(PathBuf, bool), Error> {
        if !crate::names::is_valid(name) {
            return Err(Error::InvalidName { what: "volume", name: name.to_owned() });
        }
        let new = self.catalog().insert_volume(name, &to_json(labels)?, session).await?;
        let data = self.volume_dir(name).join("_data");
        fs::create_dir_all(&data).at(&data)?;
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
        Ok(Volume { labels: from_json(&row.labels)?, created: row.created, name: row.name, directory })
    }
}
