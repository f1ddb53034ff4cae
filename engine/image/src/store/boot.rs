//! What a power cut may have torn.
//!
//! Layers are not synced file by file: that would cost seconds. Instead each records the boot it was unpacked in.
//! The first `open` after another boot distrusts the layers of older boots that no `sync` has covered: they are
//! unpacked again from their blob where it verifies, and dropped with their images where not.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::collect::{Reclaimed, move_into};
use super::error::{StoreError, at};
use super::images::ImageRecord;
use super::layers::LayerRecord;
use super::staging::{StagedDir, lock, write_file};
use super::{ImageStore, names_in, read_record, to_json};

/// The kernel's id of this boot.
pub(super) fn current(proc: &Path) -> Result<String, StoreError> {
    let path = proc.join("sys/kernel/random/boot_id");
    let id = fs::read_to_string(&path).map_err(at("read", &path))?;
    Ok(id.trim().to_owned())
}

impl ImageStore {
    /// Makes sure that everything in the store is on the disk, and notes it in the layers.
    ///
    /// # Errors
    /// Those of syncfs(2) and of writing the records.
    pub fn sync(&self) -> Result<(), StoreError> {
        let _hold = self.hold()?;
        let mut unsynced = Vec::new();
        for name in names_in(&self.path("layers"))? {
            let path = self.path("layers").join(name).join("layer.json");
            let record: LayerRecord = read_record(&path)?;
            if !record.synced {
                unsynced.push((path, record));
            }
        }
        let root = File::open(self.root()).map_err(at("open", self.root()))?;
        rustix::fs::syncfs(&root).map_err(|e| at("sync", self.root())(e.into()))?;
        for (path, record) in unsynced {
            let record = LayerRecord { synced: true, ..record };
            write_file(self.root(), &path, &to_json(&record))?;
        }
        Ok(())
    }

    /// Once a boot, deals with what the last one may have left torn.
    pub(super) fn check_after_boot(&self) -> Result<(), StoreError> {
        let marker = self.path("boot");
        if fs::read_to_string(&marker).is_ok_and(|boot| boot == self.0.boot) {
            return Ok(());
        }
        let lock_file = self.lock_file()?;
        lock(&lock_file, FlockOperation::LockExclusive).map_err(at("lock", &self.path("lock")))?;
        if fs::read_to_string(&marker).is_ok_and(|boot| boot == self.0.boot) {
            return Ok(());
        }
        let trash = StagedDir::create(self.root())?;
        self.check_layers(&trash)?;
        self.drop_broken_images(&trash)?;
        self.drop_unknown_blobs(&trash)?;
        write_file(self.root(), &marker, self.0.boot.as_bytes())
    }

    fn check_layers(&self, trash: &StagedDir) -> Result<(), StoreError> {
        let dir = self.path("layers");
        for name in names_in(&dir)? {
            let path = dir.join(&name);
            let record = read_record::<LayerRecord>(&path.join("layer.json"));
            if record.as_ref().is_ok_and(|record| record.synced || record.boot == self.0.boot) {
                continue;
            }
            let again = record.ok().and_then(|record| self.unpack_again(&record));
            move_into(trash, &path)?;
            match again {
                Some((ready, record)) => {
                    // By hand, not by `adopt`: its lock is held here, and its parent may be gone until its turn.
                    let fresh = ready.path().join("layer");
                    fs::write(fresh.join("layer.json"), to_json(&record)).map_err(at("write", &fresh))?;
                    fs::rename(&fresh, &path).map_err(at("create", &path))?;
                }
                None => tracing::warn!(layer = name, "dropped a layer that the last boot may have left torn"),
            }
        }
        Ok(())
    }

    fn unpack_again(&self, record: &LayerRecord) -> Option<(StagedDir, LayerRecord)> {
        let ingested = self.ingest_blob(record.blob.as_ref()?.digest, record.diff_id).ok()?;
        Some((ingested.into_staged(), LayerRecord { boot: self.0.boot.clone(), ..record.clone() }))
    }

    /// A blob that no image and no layer vouches for may be torn, and would be taken for whole by the next pull.
    fn drop_unknown_blobs(&self, trash: &StagedDir) -> Result<(), StoreError> {
        let (_, mut known) = self.needed_by_images(&HashSet::new())?;
        for name in names_in(&self.path("layers"))? {
            let record: LayerRecord = read_record(&self.path("layers").join(name).join("layer.json"))?;
            known.extend(record.blob.map(|blob| blob.digest));
        }
        self.remove_blobs(&known, trash, &mut Reclaimed::default())
    }

    fn drop_broken_images(&self, trash: &StagedDir) -> Result<(), StoreError> {
        let dir = self.path("images");
        for name in names_in(&dir)? {
            let path = dir.join(&name);
            let id = name.strip_suffix(".json").and_then(|hex| format!("sha256:{hex}").parse().ok());
            let record = read_record::<ImageRecord>(&path);
            let config = id.map(|id| self.read_blob(id, "an image configuration"));
            let whole = config.is_some_and(|config| config.is_ok())
                && record
                    .is_ok_and(|record| record.layers.iter().all(|layer| self.layer(layer.chain_id).is_ok()));
            if !whole {
                tracing::warn!(image = name, "dropped an image that the last boot may have left torn");
                move_into(trash, &path)?;
                // A configuration that is not what its name says would be taken for stored later on.
                if let Some(id) = id {
                    remove_if_there(&self.blob_path(id))?;
                }
            }
        }
        let images: HashSet<_> = self.image_ids()?.into_iter().collect();
        let references = self.path("references");
        for name in names_in(&references)? {
            let path = references.join(name);
            let record = read_record::<super::images::ReferenceRecord>(&path);
            if !record.is_ok_and(|record| images.contains(&record.image)) {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(at("remove", path)),
    }
}
