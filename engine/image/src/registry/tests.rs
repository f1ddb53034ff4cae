//! Pulls from a fake registry, for answers that a real one does not give.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use engine_types::ErrorKind;
use tempfile::TempDir;

use super::*;
use crate::archive::{PackOptions, pack};
use crate::manifest::OCI_CONFIG;

/// What the fake registry answers, by path.
type Answers = BTreeMap<String, Vec<u8>>;

/// Serves the answers, to those with the bearer token alone, which anyone gets at `/token` for the right scope.
fn serve(answers: Answers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Arc::new(answers);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || answer(stream.unwrap(), address, &answers));
        }
    });
    address
}

fn answer(mut stream: TcpStream, address: SocketAddr, answers: &Answers) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let Some(path) = request.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let authorised = request.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer the-token"));
    let (status, header, body) = match answers.get(path) {
        _ if path == "/token?scope=repository%3Aapp%3Apull&service=fake" => {
            ("200 OK", String::new(), br#"{"token":"the-token"}"#.to_vec())
        }
        _ if !authorised => {
            let realm =
                format!("www-authenticate: Bearer realm=\"http://{address}/token\",service=\"fake\"\r\n");
            ("401 Unauthorized", realm, Vec::new())
        }
        Some(body) => ("200 OK", String::new(), body.clone()),
        None => ("404 Not Found", String::new(), br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n");
    // A client that has seen enough hangs up.
    _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

/// An image of one layer as a registry holds it.
struct Sample {
    config: Vec<u8>,
    layer: Vec<u8>,
    manifest: Manifest,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "content").unwrap();
        let layer = pack(dir.path(), PackOptions::default(), Vec::new()).unwrap().out;
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids.push(DiffId(sha256(&layer)));
        let config = config.to_bytes();
        let descriptor =
            |media_type: &str, bytes: &[u8]| Descriptor::new(media_type, sha256(bytes), bytes.len() as u64);
        let manifest = Manifest {
            schema_version: 2,
            media_type: None,
            config: descriptor(OCI_CONFIG, &config),
            layers: vec![descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        };
        Self { config, layer, manifest }
    }

    fn answers(&self) -> Answers {
        let blob = |descriptor: &Descriptor| format!("/v2/app/blobs/{}", descriptor.digest);
        Answers::from([
            ("/v2/app/manifests/1".to_owned(), serde_json::to_vec(&self.manifest).unwrap()),
            (blob(&self.manifest.config), self.config.clone()),
            (blob(&self.manifest.layers[0]), self.layer.clone()),
        ])
    }
}

async fn pull(answers: Answers) -> (TempDir, ImageStore, Result<Image, PullError>) {
    let reference = format!("{}/app:1", serve(answers)).parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path(), Path::new("/proc")).unwrap();
    let result = store.pull(&reference, &PullOptions::default(), &|_| {}).await;
    (dir, store, result)
}

#[track_caller]
fn check_refused(dir: &TempDir, result: Result<Image, PullError>, kind: ErrorKind, expected: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(with_causes(&error).contains(expected), "{}", with_causes(&error));
    for name in ["staging", "images", "references", "layers"] {
        assert_eq!(fs::read_dir(dir.path().join(name)).unwrap().count(), 0, "{name}");
    }
}

#[tokio::test]
async fn gets_a_bearer_token_for_the_repository() {
    let (_dir, store, image) = pull(Sample::new().answers()).await;
    let file = store.layer_dirs(&image.unwrap())[0].join("file");
    assert_eq!(fs::read_to_string(file).unwrap(), "content");
}

#[tokio::test]
async fn refuses_more_bytes_than_promised() {
    let mut sample = Sample::new();
    sample.manifest.layers[0].size = 1000;
    let (dir, _, result) = pull(sample.answers()).await;
    check_refused(&dir, result, ErrorKind::Corrupt, "sends more than the 1000 bytes");
}

#[tokio::test]
async fn gives_up_on_fewer_bytes_than_promised() {
    let mut sample = Sample::new();
    sample.manifest.layers[0].size += 1;
    let (dir, _, result) = pull(sample.answers()).await;
    check_refused(&dir, result, ErrorKind::Unavailable, "broke off");
}

#[tokio::test]
async fn refuses_a_layer_that_is_not_the_configuration_s() {
    let mut sample = Sample::new();

    let mut config = ImageConfig::from_slice(&sample.config).unwrap();
    config.rootfs.diff_ids[0] = DiffId(sha256(b"another layer"));
    sample.config = config.to_bytes();
    sample.manifest.config = Descriptor::new(OCI_CONFIG, sha256(&sample.config), sample.config.len() as u64);
    let (dir, _, result) = pull(sample.answers()).await;
    check_refused(&dir, result, ErrorKind::Corrupt, "wrong digest of a layer");

    config.rootfs.diff_ids.clear();
    sample.config = config.to_bytes();
    sample.manifest.config = Descriptor::new(OCI_CONFIG, sha256(&sample.config), sample.config.len() as u64);
    let (dir, _, result) = pull(sample.answers()).await;
    check_refused(&dir, result, ErrorKind::Corrupt, "names 0 layers, but there are 1");
}

#[tokio::test]
async fn refuses_what_is_no_image_or_no_manifest() {
    let mut sample = Sample::new();
    sample.manifest.config.media_type = "application/vnd.cncf.helm.config.v1+json".into();
    let (dir, _, result) = pull(sample.answers()).await;
    check_refused(&dir, result, ErrorKind::InvalidArgument, "is not an image");

    let mut answers = sample.answers();
    answers.insert("/v2/app/manifests/1".into(), b"<html>".to_vec());
    let (dir, _, result) = pull(answers).await;
    check_refused(&dir, result, ErrorKind::Corrupt, "malformed manifest");
}
