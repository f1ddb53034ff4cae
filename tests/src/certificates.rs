//! Certificates of a test's own, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::expect_success;

/// A certificate authority.
pub struct Authority {
    dir: PathBuf,
}

/// A certificate and its key; PEM files.
pub struct Certificate {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, with its files in this directory.
    pub fn make(dir: &Path) -> Self {
        expect_success(&mut request(dir, "authority", "a test's authority"));
        Self { dir: dir.to_owned() }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// A certificate for 127.0.0.1 that it has signed.
    pub fn sign(&self, name: &str) -> Certificate {
        let mut signed = request(&self.dir, name, name);
        signed.arg("-CA").arg(self.certificate()).arg("-CAkey").arg(self.dir.join("authority.key"));
        signed.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]);
        expect_success(&mut signed);
        let file = |ending: &str| self.dir.join(format!("{name}.{ending}"));
        Certificate { certificate: file("pem"), key: file("key") }
    }
}

/// A certificate that signs itself, unless told otherwise.
fn request(dir: &Path, name: &str, subject: &str) -> Command {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-days", "1", "-nodes", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-subj", &format!("/CN={subject}"), "-keyout"])
        .arg(dir.join(format!("{name}.key")))
        .arg("-out")
        .arg(dir.join(format!("{name}.pem")));
    command
}
