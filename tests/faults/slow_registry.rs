//! A docker-registry behind a line so slow that a pull can be met half done.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What passes at once, in bytes, and the pause after it: about 1.6 MB a second.
const CHUNK: usize = 8 * 1024;
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct SlowRegistry {
    child: Child,
    address: SocketAddr,
    line: SocketAddr,
    passed: Arc<AtomicU64>,
    _dir: tempfile::TempDir,
}

impl SlowRegistry {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             storage: {{filesystem: {{rootdirectory: '{path}/data'}}}}\n"
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.path().join("config.yml")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().expect("docker-registry (Debian package docker-registry) must be installed");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = |line: String| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ' ', ',']).next()?.parse().ok()
        };
        let address = log.by_ref().map(Result::unwrap).find_map(listening);
        let address = address.expect("docker-registry ended before it listened");
        // Its log is read on, so that it never blocks on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        let passed = Arc::new(AtomicU64::new(0));
        let line = slow_line(address, Arc::clone(&passed));
        Self { child, address, line, passed, _dir: dir }
    }

    /// Pushes a docker-archive; its name at the far end of the slow line.
    pub(crate) fn push(&self, archive: &Path, name: &str) -> String {
        let output = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .arg(format!("docker-archive:{}", archive.display()))
            .arg(format!("docker://{}/{name}", self.address))
            .output()
            .expect("skopeo (Debian package skopeo) must be installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        format!("{}/{name}", self.line)
    }

    /// Bytes that have passed so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Drop for SlowRegistry {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn slow_line(upstream: SocketAddr, passed: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // The registry may be gone: the test is over.
            let Ok(server) = TcpStream::connect(upstream) else { return };
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            let passed = Arc::clone(&passed);
            std::thread::spawn(move || pass_slowly(server, client, &passed));
        }
    });
    address
}

fn pass_slowly(mut from: TcpStream, mut to: TcpStream, passed: &AtomicU64) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        passed.fetch_add(length as u64, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    _ = from.shutdown(std::net::Shutdown::Both);
    _ = to.shutdown(std::net::Shutdown::Both);
}
