//! OCI images: blobs, layers, tags, archives and registries.
