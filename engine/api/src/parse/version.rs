use crate::error::ApiError;
use crate::{API_MAX, API_MIN};

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    pub(crate) const NEWEST: Self = Self(API_MAX.0, API_MAX.1);
    pub(crate) const OLDEST: Self = Self(API_MIN.0, API_MIN.1);
}

/// Takes `/v1.44` off a path; without one the newest version is meant.
pub(crate) fn strip_version(path: &str) -> Result<(Version, &str), ApiError> {
    let first = path.strip_prefix("/v").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
    let Some((version, rest)) = first.and_then(|(text, rest)| Some((version(text)?, rest))) else {
        return Ok((Version::NEWEST, path));
    };
    if version > Version::NEWEST {
        let newest = Version::NEWEST;
        return Err(ApiError::Invalid(format!(
            "client version {version} is too new. Maximum supported API version is {newest}"
        )));
    }
    if version < Version::OLDEST {
        let oldest = Version::OLDEST;
        return Err(ApiError::Invalid(format!(
            "client version {version} is too old. Minimum supported API version is {oldest}, please upgrade your \
             client to a newer version"
        )));
    }
    Ok((version, rest))
}

/// `volumes` begins with a v as well.
fn version(text: &str) -> Option<Version> {
    let (major, minor) = text.split_once('.')?;
    Some(Version(major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_versions_off_paths() {
        assert_eq!(strip_version("/v1.44/info").unwrap(), (Version(1, 44), "info"));
        assert_eq!(strip_version("/info").unwrap(), (Version::NEWEST, "/info"));
        assert_eq!(strip_version("/volumes/v1.2").unwrap(), (Version::NEWEST, "/volumes/v1.2"));
        let refused = |path| strip_version(path).unwrap_err().to_string();
        assert!(refused("/v1.99/info").contains("client version 1.99 is too new"));
        assert!(refused("/v1.23/info").contains("client version 1.23 is too old"));
    }
}
