use std::collections::HashSet;
use std::fs;
use std::path::Path;

use engine_types::Digest;
use rustix::fs::FlockOperation;
use uuid::Uuid;

use super::error::{StoreError, at};
use super::layers::{ChainId, LayerRecord};
use super::staging::{StagedDir, lock};
use super::{ImageStore, names_in, read_record};

/// What [`ImageStore::collect`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Bytes of blobs and of layers' files.
    pub bytes: u64,
    /// Layers.
    pub layers: u64,
    /// Blobs.
    pub blobs: u64,
    /// Somebody was adding to the store, so nothing was removed; the next collection will.
    pub postponed: bool,
}

impl ImageStore {
    /// Removes the blobs and layers that no image needs and that are not below a layer `in_use` (by containers and
    /// by the build cache). Never waits for others: see [`Reclaimed::postponed`].
    ///
    /// # Errors
    /// Those of the file system; what was removed before stays removed, the store is whole.
    pub fn collect(&self, in_use: &HashSet<ChainId>) -> Result<Reclaimed, StoreError> {
        let lock_file = self.lock_file()?;
        if lock(&lock_file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Reclaimed { postponed: true, ..Reclaimed::default() });
        }
        let (layers, mut blobs) = self.needed_by_images(in_use)?;
        let mut reclaimed = Reclaimed::default();
        let trash = StagedDir::create(self.root())?;
        let layers_dir = self.path("layers");
        for name in names_in(&layers_dir)? {
            let path = layers_dir.join(&name);
            let record = read_record::<LayerRecord>(&path.join("layer.json"));
            if parse_hex(&name).is_some_and(|digest| layers.contains(&ChainId(digest))) {
                blobs.extend(record?.blob.map(|blob| blob.digest));
                continue;
            }
            reclaimed.layers += 1;
            reclaimed.bytes += record.map_or(0, |record| record.file_bytes);
            move_into(&trash, &path)?;
        }
        self.remove_blobs(&blobs, &trash, &mut reclaimed)?;
        drop(lock_file);
        Ok(reclaimed)
    }

    /// The layers that images have.
    ///
    /// # Errors
    /// Those of reading the records.
    pub fn layers_of_images(&self) -> Result<HashSet<ChainId>, StoreError> {
        Ok(self.needed_by_images(&HashSet::new())?.0)
    }

    /// Removes all blobs but those that are needed; the caller holds the store's lock.
    pub(super) fn remove_blobs(
        &self,
        needed: &HashSet<Digest>,
        trash: &StagedDir,
        reclaimed: &mut Reclaimed,
    ) -> Result<(), StoreError> {
        let dir = self.path("blobs/sha256");
        for name in names_in(&dir)? {
            if parse_hex(&name).is_some_and(|digest| needed.contains(&digest)) {
                continue;
            }
            let path = dir.join(&name);
            reclaimed.blobs += 1;
            reclaimed.bytes += fs::metadata(&path).map_err(at("inspect", &path))?.len();
            move_into(trash, &path)?;
        }
        Ok(())
    }

    /// The layers and blobs that images need, and the layers that are in use.
    pub(super) fn needed_by_images(
        &self,
        in_use: &HashSet<ChainId>,
    ) -> Result<(HashSet<ChainId>, HashSet<Digest>), StoreError> {
        let mut blobs = HashSet::new();
        let mut tips: Vec<ChainId> = in_use.iter().copied().collect();
        for id in self.image_ids()? {
            let record: super::images::ImageRecord = read_record(&self.image_path(id))?;
            blobs.insert(id.0);
            blobs.extend(record.manifest);
            blobs
                .extend(record.layers.iter().filter_map(|layer| layer.blob.as_ref()).map(|blob| blob.digest));
            tips.extend(record.layers.iter().map(|layer| layer.chain_id));
        }
        let mut layers = HashSet::new();
        while let Some(chain_id) = tips.pop() {
            if layers.insert(chain_id) {
                match self.layer(chain_id) {
                    Ok(layer) => tips.extend(layer.parent),
                    Err(StoreError::NoSuchLayer(_)) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok((layers, blobs))
    }
}

fn parse_hex(name: &str) -> Option<Digest> {
    format!("sha256:{name}").parse().ok()
}

/// Moves a file or directory of the store where it goes away. It gets a name of its own there: a first layer and its
/// blob may be called alike.
pub(super) fn move_into(trash: &StagedDir, path: &Path) -> Result<(), StoreError> {
    let target = trash.path().join(Uuid::now_v7().simple().to_string());
    fs::rename(path, target).map_err(at("remove", path))
}
