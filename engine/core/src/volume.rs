use std::fs;
use std::path::PathBuf;

use engine_types::SessionId;

use crate::engine::Engine;
use crate::error::{At, Error};
use crate::session::remove_dir;

impl Engine {
    /// Makes a volume, unless one of that name exists; its directory.
    pub async fn create_volume(&self, name: &str, session: Option<SessionId>) -> Result<PathBuf, Error> {
        self.catalog().insert_volume(name, session).await?;
        let data = self.volume_dir(name).join("_data");
        fs::create_dir_all(&data).at(&data)?;
        Ok(data)
    }

    /// Removes a volume with all in it.
    pub async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        remove_dir(&self.volume_dir(name))?;
        self.catalog().delete_volume(name).await
    }
}
