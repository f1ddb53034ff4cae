//! A container's own files as a layer.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::ImageStore;
use super::error::{StoreError, at};
use super::ingest::Expected;
use super::layers::{ChainId, LAYER_PACKING, Layer};
use crate::archive::Packer;

impl ImageStore {
    /// Makes a layer on top of `parent` of a copy of an overlay's upper directory, leaving out the files at `without`.
    /// What is written there meanwhile may be in it or not.
    ///
    /// # Errors
    /// Those of reading the directory and of [`ImageStore::adopt`].
    pub fn copy_layer(
        &self,
        upper: &Path,
        without: BTreeSet<PathBuf>,
        parent: Option<ChainId>,
    ) -> Result<Layer, StoreError> {
        let _hold = self.hold()?;
        let (reader, writer) = io::pipe().map_err(at("open a pipe for", upper))?;
        let (packed, ingested) = std::thread::scope(|scope| {
            let packing = scope.spawn(|| {
                let mut packer = Packer::new(io::BufWriter::new(writer), LAYER_PACKING).without(without);
                packer.add_contents(upper)?;
                packer.finish().map(drop)
            });
            let ingested = self.ingest(reader, Expected::default(), false);
            (packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), ingested)
        });
        // An archive that was not finished is why it could not be read.
        packed.map_err(StoreError::Pack)?;
        let (staged, hashed) = ingested?.into_layer();
        self.adopt(staged, parent, hashed)
    }
}
