use engine::image::{ContainerConfig, Image, ImageSummary};
use engine_types::Reference;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::ZERO_TIME;
use crate::parse::Version;

/// An entry of `images/json`. Docker gives images without a name the name `<none>` up to 1.42.
pub(crate) fn image_summary(summary: &ImageSummary, containers: i64, version: Version) -> Value {
    let mut tags = texts(&summary.references);
    let mut digests = texts(&summary.digests);
    if version < Version(1, 43) {
        for (list, none) in [(&mut tags, "<none>:<none>"), (&mut digests, "<none>@<none>")] {
            if list.is_empty() {
                list.push(none.to_owned());
            }
        }
    }
    let mut value = json!({
        "Id": summary.id.to_string(),
        "ParentId": "",
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": seconds(summary.created.as_deref()),
        "Size": summary.file_bytes,
        "SharedSize": -1,
        "Labels": Some(&summary.labels).filter(|labels| !labels.is_empty()),
        "Containers": containers,
    });
    if version < Version(1, 44) {
        value["VirtualSize"] = json!(summary.file_bytes);
    }
    value
}

/// `images/{name}/json`.
pub(crate) fn image(image: &Image, references: &[Reference], version: Version) -> Value {
    let (digests, tags): (Vec<_>, Vec<_>) = references.iter().cloned().partition(|r| r.digest().is_some());
    let config = &image.config;
    let layers: Vec<String> = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    let mut value = json!({
        "Id": image.id.to_string(),
        "RepoTags": texts(&tags),
        "RepoDigests": texts(&digests),
        "Parent": "",
        "Comment": config.comment.clone().unwrap_or_default(),
        "Created": config.created.as_deref().unwrap_or(ZERO_TIME),
        "DockerVersion": "",
        "Author": config.author.clone().unwrap_or_default(),
        "Config": container_config(&config.config, version),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.file_bytes,
        "GraphDriver": { "Name": "overlay2", "Data": null },
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": ZERO_TIME },
    });
    if let Some(variant) = &config.variant {
        value["Variant"] = json!(variant);
    }
    if version < Version(1, 44) {
        value["VirtualSize"] = json!(image.file_bytes);
    }
    value
}

/// How containers of an image run. Up to 1.49 all fields were there, those of containers alone as well.
fn container_config(config: &ContainerConfig, version: Version) -> Value {
    let given = json!(config);
    if version >= Version(1, 50) {
        return given;
    }
    let all = json!({
        "Hostname": "", "Domainname": "", "User": "",
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": null, "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null,
        "OnBuild": null, "Labels": null,
    });
    super::merged([all, given])
}

/// `images/{name}/history`, newest first.
pub(crate) fn history(image: &Image, references: &[Reference], layer_bytes: &[u64]) -> Vec<Value> {
    let tags: Vec<Reference> = references.iter().filter(|r| r.digest().is_none()).cloned().collect();
    let entries = image.config.history.iter().rev().enumerate();
    // Old builders left no history of the lowest layers.
    let mut bytes = layer_bytes.iter().rev();
    let entry = |(n, entry): (usize, &engine::image::History)| {
        let size = if entry.empty_layer { None } else { bytes.next() };
        let newest = n == 0;
        json!({
            "Id": if newest { image.id.to_string() } else { "<missing>".to_owned() },
            "Created": seconds(entry.created.as_deref()),
            "CreatedBy": entry.created_by.clone().unwrap_or_default(),
            "Tags": if newest { Some(texts(&tags)) } else { None },
            "Size": size.copied().unwrap_or_default(),
            "Comment": entry.comment.clone().unwrap_or_default(),
        })
    };
    entries.map(entry).collect()
}

fn texts(references: &[Reference]) -> Vec<String> {
    references.iter().map(ToString::to_string).collect()
}

fn seconds(created: Option<&str>) -> i64 {
    created.and_then(|text| text.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second)
}
