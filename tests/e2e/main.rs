//! The parts together, on the real kernel and with real tools. Needs root, docker-registry and skopeo.

mod registry;
