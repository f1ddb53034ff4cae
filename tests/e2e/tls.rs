//! A registry that speaks TLS, as all do but those on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{World, expect_success};

use crate::checkout::Checkout;
use crate::registry::Registry;

/// A certificate authority and a certificate for 127.0.0.1 that it signed.
struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    fn make(dir: &Path) -> Self {
        let file = |name: &str| dir.join(name);
        let new = |name: &str, subject: &str| {
            let mut command = Command::new("openssl");
            command
                .args(["req", "-x509", "-days", "1", "-nodes", "-newkey", "ec", "-pkeyopt"])
                .args(["ec_paramgen_curve:P-256", "-subj", subject, "-keyout"])
                .arg(file(&format!("{name}.key")))
                .arg("-out")
                .arg(file(&format!("{name}.pem")));
            command
        };
        expect_success(&mut new("authority", "/CN=a test's authority"));
        let mut signed = new("server", "/CN=a test's registry");
        signed.arg("-CA").arg(file("authority.pem")).arg("-CAkey").arg(file("authority.key"));
        signed.args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]);
        expect_success(&mut signed);
        Self { authority: file("authority.pem"), certificate: file("server.pem"), key: file("server.key") }
    }
}

#[test]
fn is_trusted_where_the_system_trusts_its_authority() {
    let source = World::new();
    let certificates = Certificates::make(&source.dir("certificates"));
    let registry = Registry::with_certificate(&certificates.certificate, &certificates.key);
    source.import("busybox:latest");
    let archive = source.path().join("busybox.tar");
    expect_success(source.command("engine").args(["save", "busybox:latest", "--output"]).arg(&archive));
    registry.push(&archive, "library/secure:1", &[]);

    let checkout = Checkout::without_images(
        "image: secure:1\njobs: {it: {network: none, steps: [{run: echo came over TLS}]}}\n",
    );
    let mirror = format!("https://{}", registry.address);
    let run = |trusted: &Path| {
        let mut command = checkout.world.command("worker");
        command.args(["run", "--plain", "--registry-mirror", &mirror]).current_dir(&checkout.dir);
        let output = command.env("SSL_CERT_FILE", trusted).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    let (code, text) = run(&certificates.certificate);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&registry.address.to_string()) && text.contains("certificate"), "{text}");
    let (code, text) = run(&certificates.authority);
    assert!(code == Some(0) && text.contains("came over TLS"), "{text}");
    checkout.world.assert_nothing_is_left();
}
