//! Debian's docker-registry as a process of a test.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use engine_types::Reference;
use tempfile::TempDir;

/// `user:secret`, hashed with bcrypt.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
/// A docker-registry of its own for each test, killed when dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: SocketAddr,
    dir: TempDir,
}

impl Registry {
    pub(super) fn start(auth: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = "http: {addr: '127.0.0.1:0'}\n".to_owned();
        if auth {
            let path = dir.path().join("htpasswd");
            fs::write(&path, HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: '{}'}}}}\n", path.display());
        }
        Self::serve(dir, &config)
    }

    /// One that speaks TLS with this certificate and key.
    pub(crate) fn with_certificate(certificate: &Path, key: &Path) -> Self {
        let config = format!(
            "http: {{addr: '127.0.0.1:0', tls: {{certificate: '{}', key: '{}'}}}}\n",
            certificate.display(),
            key.display()
        );
        Self::serve(tempfile::tempdir().unwrap(), &config)
    }

    fn serve(dir: TempDir, config: &str) -> Self {
        let path = dir.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{path}/data'}}}}\n{config}"
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.path().join("config.yml")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().expect("docker-registry (Debian package docker-registry) must be installed");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = log
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                rest.split(['"', ' ', ',']).next()?.parse().ok()
            })
            .expect("docker-registry ended before it listened");
        // Its log is read on, so that it never blocks on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address, dir }
    }

    pub(super) fn name(&self, repository: &str) -> Reference {
        super::name_at(self.address, repository)
    }

    /// Pushes an archive as `repository`, with more arguments for skopeo.
    pub(crate) fn push(&self, archive: &Path, repository: &str, arguments: &[&str]) {
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .args(arguments)
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{repository}", self.address))
            .output()
            .expect("skopeo (Debian package skopeo) must be installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(super) fn blob(&self, hex: &str) -> PathBuf {
        self.dir.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// Puts a manifest by hand, for what skopeo does not make.
    pub(super) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, body: &str) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
