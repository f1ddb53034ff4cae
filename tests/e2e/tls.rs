//! A registry that speaks TLS, as all do but those on this machine.

use std::path::Path;

use tests::{Authority, World, expect_success};

use crate::checkout::Checkout;
use crate::registry::Registry;

#[test]
fn is_trusted_where_the_system_trusts_its_authority() {
    let source = World::new();
    let authority = Authority::make(&source.dir("certificates"));
    let own = authority.sign("registry");
    let registry = Registry::with_certificate(&own.certificate, &own.key);
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
    let (code, text) = run(&own.certificate);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&registry.address.to_string()) && text.contains("certificate"), "{text}");
    let (code, text) = run(&authority.certificate());
    assert!(code == Some(0) && text.contains("came over TLS"), "{text}");
    checkout.world.assert_nothing_is_left();
}
