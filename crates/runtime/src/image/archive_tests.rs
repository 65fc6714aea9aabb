use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::image::Store;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}

fn store() -> Option<(tempfile::TempDir, Store)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: layers are unpacked by root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    Some((dir, store))
}

/// An OCI layout whose manifest lies behind an index with another platform; `spoil` may change a blob's content.
fn oci(spoil: bool) -> Vec<u8> {
    let plain = tar_of(&[("file", b"content")]);
    let layer = gzip(&plain);
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(&plain)] } });
    let config = config.to_string().into_bytes();
    let describe = |kind: &str, content: &[u8]| serde_json::json!({ "mediaType": kind, "digest": digest(content), "size": content.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": [describe("application/vnd.oci.image.layer.v1.tar+gzip", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut ours = describe("application/vnd.oci.image.manifest.v1+json", &manifest);
    ours["platform"] =
        serde_json::json!({ "os": "linux", "architecture": oci_spec::image::Arch::default().to_string() });
    let mut other = describe("application/vnd.oci.image.manifest.v1+json", b"absent");
    other["platform"] = serde_json::json!({ "os": "linux", "architecture": "s390x" });
    let inner =
        serde_json::json!({ "schemaVersion": 2, "manifests": [other, ours] }).to_string().into_bytes();
    let mut outer = describe("application/vnd.oci.image.index.v1+json", &inner);
    outer["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "example.com/app:2" });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [outer] }).to_string().into_bytes();
    let blob = |content: &[u8]| format!("blobs/sha256/{}", &digest(content)[7..]);
    let spoiled = gzip(&tar_of(&[("file", b"another")]));
    tar_of(&[
        (&blob(&layer), if spoil { &spoiled } else { &layer }),
        (&blob(&config), &config),
        (&blob(&manifest), &manifest),
        (&blob(&inner), &inner),
        ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}"),
        ("index.json", &index),
    ])
}

#[test]
fn an_oci_layout_is_imported_for_this_machine() {
    let Some((dir, store)) = store() else { return };
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let images = store.import(oci(false).as_slice(), &mut |_| {}).unwrap();
    let image = store.find("example.com/app:2").unwrap();
    assert_eq!(images, std::slice::from_ref(&image));
    assert!(image.digests.iter().next().unwrap().starts_with("example.com/app@sha256:"));
    let layer = dir.path().join("layers").join(&image.layers[0][7..19]);
    assert_eq!(std::fs::read_to_string(layer.join("file")).unwrap(), "content");
    // Compressed as a whole it is the same.
    assert_eq!(store.import(gzip(&oci(false)).as_slice(), &mut |_| {}).unwrap(), images);
}

#[test]
fn a_blob_must_have_its_digest() {
    let Some((_dir, store)) = store() else { return };
    let result = store.import(oci(true).as_slice(), &mut |_| {});
    assert!(matches!(result, Err(Error::Digest { .. })), "{result:?}");
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn what_is_no_image_is_refused() {
    let Some((dir, store)) = store() else { return };
    let long_name = "x".repeat(90);
    for archive in [
        Vec::new(),
        b"not a tar".to_vec(),
        tar_of(&[("readme", b"hello")]),
        tar_of(&[("manifest.json", b"[]")]),
        tar_of(&[("manifest.json", b"{}")]),
        tar_of(&[("manifest.json", b"[{\"Config\":\"gone\",\"Layers\":[]}]")]),
        tar_of(&[("manifest.json", b"[{\"Config\":\"../../etc/passwd\",\"Layers\":[]}]")]),
        tar_of(&[("index.json", b"{\"schemaVersion\":2,\"manifests\":[]}")]),
        tar_of(&[(&long_name, b"")]),
        gzip(b"not a tar either, but compressed"),
    ] {
        assert!(store.import(archive.as_slice(), &mut |_| {}).is_err());
    }
    assert!(store.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0, "nothing is left of them");
}
