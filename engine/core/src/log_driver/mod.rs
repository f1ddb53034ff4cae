//! Where a container's output goes, as Docker's log drivers have it.
//!
//! Whatever the driver, the output is kept in a file as well, from which `logs` is served: for `json-file` without bounds
//! unless its options set some, for the others within those that Docker sets.

mod options;
mod syslog;

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine_runtime::log::Forward;
use engine_runtime::spec::LogConfig;
use engine_types::{ContainerId, Digest, ErrorKind, ImageId};
use serde::{Deserialize, Serialize};

use options::Bounds;

/// A log driver with its options. [`LogDriver::new`] checks them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDriver {
    driver: Driver,
    options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Driver {
    JsonFile,
    Local,
    Syslog,
    Journald,
    None,
}

const DRIVERS: [(&str, Driver); 5] = [
    ("json-file", Driver::JsonFile),
    ("local", Driver::Local),
    ("syslog", Driver::Syslog),
    ("journald", Driver::Journald),
    ("none", Driver::None),
];

/// Why a driver or an option is none; in Docker's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum LogDriverError {
    /// Nobody knows the driver.
    #[error("logger: no log driver named '{0}' is registered")]
    NoDriver(String),
    /// The driver has no such option.
    #[error("unknown log opt '{option}' for {driver} log driver")]
    NoOption {
        /// The option's name.
        option: String,
        /// The driver's.
        driver: &'static str,
    },
    /// An option has a value that makes no sense.
    #[error("invalid log opt {option}={value}: {reason}")]
    Value {
        /// The option's name.
        option: String,
        /// What it was given.
        value: String,
        /// Why it makes no sense.
        reason: String,
    },
}

impl LogDriverError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }

    fn value(option: &str, value: &str, reason: impl ToString) -> Self {
        Self::Value { option: option.to_owned(), value: value.to_owned(), reason: reason.to_string() }
    }
}

/// Of whom a log is: what its options may speak of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) id: ContainerId,
    pub(crate) name: &'a str,
    pub(crate) image: ImageId,
    pub(crate) image_name: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
    /// `NAME=value` each.
    pub(crate) env: &'a [String],
}

impl Default for LogDriver {
    fn default() -> Self {
        Self { driver: Driver::JsonFile, options: BTreeMap::new() }
    }
}

impl LogDriver {
    /// Checks a driver and its options.
    pub fn new(driver: &str, options: BTreeMap<String, String>) -> Result<Self, LogDriverError> {
        let known = DRIVERS.into_iter().find(|(name, _)| *name == driver).map(|(_, driver)| driver);
        let driver = known.ok_or_else(|| LogDriverError::NoDriver(driver.to_owned()))?;
        let log = Self { driver, options };
        // What can be said without a container is said now.
        let nobody = Subject {
            id: ContainerId::from_random([0; 32]),
            name: "",
            image: ImageId(Digest::from_sha256([0; 32])),
            image_name: "",
            labels: &BTreeMap::new(),
            env: &[],
        };
        log.check_names()?;
        log.to_config(PathBuf::new(), nobody)?;
        Ok(log)
    }

    /// The driver's name.
    pub fn name(&self) -> &'static str {
        DRIVERS.into_iter().find(|(_, driver)| *driver == self.driver).map_or("", |(name, _)| name)
    }

    /// Its options.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// Whether there is anything to read back.
    pub fn is_kept(&self) -> bool {
        self.driver != Driver::None
    }

    /// Output that nobody keeps.
    pub fn none() -> Self {
        Self { driver: Driver::None, options: BTreeMap::new() }
    }

    fn check_names(&self) -> Result<(), LogDriverError> {
        // `mode` and what belongs to it are of all: a supervisor takes output as fast as the disk lets it, either way.
        const ALL: [&str; 2] = ["mode", "max-buffer-size"];
        const ATTRIBUTES: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];
        const BOUNDS: [&str; 3] = ["max-size", "max-file", "compress"];
        const SYSLOG: [&str; 3] = ["syslog-address", "syslog-facility", "syslog-format"];
        let own: &[&[&str]] = match self.driver {
            Driver::JsonFile => &[&ATTRIBUTES, &BOUNDS],
            Driver::Local => &[&BOUNDS],
            Driver::Syslog => &[&ATTRIBUTES, &SYSLOG],
            Driver::Journald => &[&ATTRIBUTES],
            // Docker's takes anything.
            Driver::None => return Ok(()),
        };
        let known = |option: &str| own.iter().any(|names| names.contains(&option)) || ALL.contains(&option);
        match self.options.keys().find(|option| !known(option)) {
            Some(option) => Err(LogDriverError::NoOption { option: option.clone(), driver: self.name() }),
            None => Ok(()),
        }
    }

    /// What the supervisor of a container is told; nothing if its output is not kept.
    pub(crate) fn to_config(
        &self,
        path: PathBuf,
        subject: Subject<'_>,
    ) -> Result<Option<LogConfig>, LogDriverError> {
        self.check_mode()?;
        let Bounds { max_size, max_files } = match self.driver {
            Driver::None => return Ok(None),
            Driver::JsonFile => Bounds::parse(&self.options, Bounds::NONE)?,
            Driver::Local => Bounds::parse(&self.options, Bounds::LOCAL)?,
            Driver::Syslog | Driver::Journald => Bounds::LOCAL,
        };
        let mut attrs = options::attributes(&self.options, subject)?;
        let tag = self.options.get("tag");
        let forward = match self.driver {
            Driver::Syslog => Some(Forward::Syslog(syslog::parse(&self.options, self.tag(subject)?)?)),
            Driver::Journald => {
                let fields = options::journal_fields(&attrs, self.tag(subject)?, subject);
                Some(Forward::Journald { fields })
            }
            _ => None,
        };
        if self.driver == Driver::JsonFile && tag.is_some() {
            attrs.insert("tag".to_owned(), self.tag(subject)?);
        }
        Ok(Some(LogConfig { path, max_size, max_files, attrs, forward }))
    }

    fn tag(&self, subject: Subject<'_>) -> Result<String, LogDriverError> {
        options::tag(self.options.get("tag").map_or("{{.ID}}", String::as_str), subject)
    }

    fn check_mode(&self) -> Result<(), LogDriverError> {
        match self.options.get("mode").map(String::as_str) {
            None | Some("blocking") => match self.options.get("max-buffer-size") {
                Some(value) => {
                    let reason = "it is only supported with 'mode=non-blocking'";
                    Err(LogDriverError::value("max-buffer-size", value, reason))
                }
                None => Ok(()),
            },
            Some("non-blocking") => match self.options.get("max-buffer-size") {
                Some(value) => options::size("max-buffer-size", value).map(drop),
                None => Ok(()),
            },
            Some(other) => Err(LogDriverError::value("mode", other, "expected blocking or non-blocking")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn config(driver: &str, pairs: &[(&str, &str)]) -> LogConfig {
        let labels = options(&[("tier", "web"), ("other", "x")]);
        let env = ["STAGE=test".to_owned(), "STAGING=1".to_owned()];
        let subject = Subject {
            id: ContainerId::from_random([1; 32]),
            name: "shop",
            image: ImageId(Digest::from_sha256([0; 32])),
            image_name: "busybox",
            labels: &labels,
            env: &env,
        };
        let log = LogDriver::new(driver, options(pairs)).unwrap();
        log.to_config("/log".into(), subject).unwrap().unwrap()
    }

    #[test]
    fn files_have_the_bounds_that_are_asked_for() {
        let bounds = |log: LogConfig| (log.max_size, log.max_files);
        assert_eq!(bounds(config("json-file", &[])), (None, 1));
        assert_eq!(
            bounds(config("json-file", &[("max-size", "10m"), ("max-file", "3")])),
            (Some(10 << 20), 3)
        );
        assert_eq!(bounds(config("local", &[])), (Some(20 << 20), 5));
        assert!(!LogDriver::new("none", BTreeMap::new()).unwrap().is_kept());
    }

    #[test]
    fn entries_carry_what_they_are_to_carry() {
        let pairs = [("labels", "tier,none"), ("env-regex", "^STAG"), ("tag", "{{.Name}}/{{ .ID }}")];
        let id = ContainerId::from_random([1; 32]).short();
        let tag = format!("shop/{id}");
        assert_eq!(
            config("json-file", &pairs).attrs,
            options(&[("tier", "web"), ("STAGE", "test"), ("STAGING", "1"), ("tag", &tag)])
        );
        let Some(Forward::Journald { fields }) = config("journald", &pairs).forward else { panic!() };
        let of = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!(
            (of("CONTAINER_NAME"), of("CONTAINER_TAG"), of("TIER")),
            (Some("shop"), Some(tag.as_str()), Some("web"))
        );
    }

    #[test]
    fn mistakes_are_named_as_docker_names_them() {
        for (driver, pairs, says) in [
            ("fluent", &[][..], "logger: no log driver named 'fluent' is registered"),
            ("json-file", &[("syslog-tag", "x")], "unknown log opt 'syslog-tag' for json-file log driver"),
            ("json-file", &[("max-size", "much")], "invalid log opt max-size=much"),
            ("json-file", &[("max-file", "0")], "max-file cannot be less than 1"),
            ("json-file", &[("compress", "true"), ("max-size", "1m")], "not compressed"),
            ("json-file", &[("tag", "{{.Nope}}")], "{{.Nope}}"),
            ("json-file", &[("labels-regex", "(")], "labels-regex=("),
            ("syslog", &[("syslog-facility", "x")], "unknown facility"),
            ("syslog", &[("syslog-address", "ftp://x")], "syslog-address=ftp://x"),
            ("local", &[("mode", "fast")], "expected blocking or non-blocking"),
            ("local", &[("max-buffer-size", "1m")], "only supported with 'mode=non-blocking'"),
        ] {
            let error = LogDriver::new(driver, options(pairs)).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
