//! The platform that is built for: this machine's. Go's words, as images and `TARGETARCH` have them.

pub(crate) const OS: &str = "linux";

/// This machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}

/// `linux/amd64`.
pub(crate) fn host() -> String {
    format!("{OS}/{}", architecture())
}

/// Whether `linux/amd64`, `linux/arm64/v8` or just `amd64` is this machine.
pub(crate) fn is_host(platform: &str) -> bool {
    let architecture = architecture();
    let variant = if architecture == "arm64" { "v8" } else { "v1" };
    [host(), architecture.to_owned(), format!("{}/{variant}", host())].iter().any(|own| own == platform)
}

/// The value of an `ARG` that describes the platform (Dockerfile reference, "Automatic platform ARGs in the global
/// scope").
pub(crate) fn arg(name: &str) -> Option<String> {
    let rest = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"))?;
    match rest {
        "PLATFORM" => Some(host()),
        "OS" => Some(OS.to_owned()),
        "ARCH" => Some(architecture().to_owned()),
        "VARIANT" => Some(String::new()),
        _ => None,
    }
}
