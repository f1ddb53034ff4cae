//! Files of containers in and out.

use std::io::Write as _;

use engine::image::archive::decompress;
use engine::{Change, Error, FilesError, PathStat};

use super::{Daemon, blocking};
use crate::error::ApiError;
use crate::transfer::{Download, Upload};

/// How an archive is unpacked in a container.
#[derive(Debug)]
pub(crate) struct UnpackRequest {
    /// The directory.
    pub(crate) path: String,
    pub(crate) keep_kinds: bool,
    /// Files become the container's user's.
    pub(crate) to_user: bool,
}

impl Daemon {
    pub(crate) async fn changes(&self, key: &str) -> Result<Vec<Change>, ApiError> {
        let id = self.engine().container(key).await?.id;
        Ok(self.engine().changes(id).await?)
    }

    pub(crate) async fn path_stat(&self, key: &str, path: &str) -> Result<PathStat, ApiError> {
        let container = self.engine().container(key).await?;
        let files = self.engine().container_files(container.id).await?;
        let (key, path) = (key.to_owned(), path.to_owned());
        blocking(move || files.stat(&path).map_err(|e| files_error(e, &path, &key))).await
    }

    /// What is at a path, and its archive.
    pub(crate) async fn archive(
        &self,
        key: &str,
        path: &str,
    ) -> Result<(PathStat, axum::body::Body), ApiError> {
        let container = self.engine().container(key).await?;
        let files = self.engine().container_files(container.id).await?;
        let path = path.to_owned();
        let stat = files.stat(&path).map_err(|e| files_error(e, &path, key))?;
        let attributes = [("path", path.clone())];
        self.engine().record_container(container.id, "archive-path", &attributes).await?;
        let body = Download::body(move |out| {
            files.pack(&path, &mut *out)?;
            out.flush().map_err(|e| FilesError::Lookup { path: path.into(), source: e })
        });
        Ok((stat, body))
    }

    /// Unpacks an archive, compressed or not.
    pub(crate) async fn unpack(
        &self,
        key: &str,
        request: UnpackRequest,
        upload: Upload,
    ) -> Result<(), ApiError> {
        let container = self.engine().container(key).await?;
        let files = self.engine().container_files(container.id).await?;
        let user = self.engine().process_defaults(&container)?.user;
        let Upload { reader, copy } = upload;
        let (named, path) = (key.to_owned(), request.path.clone());
        let unpacking = blocking(move || {
            let unpacked = files.check_target(&request.path).and_then(|()| {
                let owner = request.to_user.then(|| files.owner(&user)).transpose()?;
                let (_, source) = decompress(reader).map_err(|source| {
                    FilesError::Unpack(engine::image::archive::UnpackError::Read(source))
                })?;
                files.unpack(&request.path, source, request.keep_kinds, owner)
            });
            unpacked.map_err(|e| files_error(e, &request.path, &named))
        });
        let (unpacked, copied) = tokio::join!(unpacking, copy);
        unpacked?;
        copied?;
        let attributes = [("path", path)];
        Ok(self.engine().record_container(container.id, "extract-to-dir", &attributes).await?)
    }

    /// All of a container's own file system.
    pub(crate) async fn export(&self, key: &str) -> Result<axum::body::Body, ApiError> {
        let id = self.engine().container(key).await?.id;
        self.engine().record_container(id, "export", &[]).await?;
        let root = self.engine().export_root(id).await?;
        Ok(Download::body(move |out| {
            root.write(&mut *out)?;
            out.flush().map_err(|e| FilesError::Lookup { path: "/".into(), source: e })
        }))
    }
}

/// Docker's words for it.
fn files_error(error: FilesError, path: &str, container: &str) -> ApiError {
    match error {
        FilesError::NotFound(_) => {
            ApiError::NotFound(format!("Could not find the file {path} in container {container}"))
        }
        other => ApiError::Engine(Error::Copy(Box::new(other))),
    }
}
