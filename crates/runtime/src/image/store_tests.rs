use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{Store, chain_id, short};
use crate::error::Error;
use crate::image::SelfImage;

fn store() -> Option<(tempfile::TempDir, Store)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: layers are unpacked by root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    Some((dir, store))
}

/// Adds an image with one layer that holds one file.
fn add(
    store: &Store,
    dir: &std::path::Path,
    content: &str,
    names: &[&str],
) -> crate::Result<super::ImageRecord> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    layer.append_data(&mut header, "file", content.as_bytes()).unwrap();
    let layer = layer.into_inner().unwrap();
    let path = dir.join(format!("{content}.tar"));
    std::fs::write(&path, &layer).unwrap();
    let diff = format!("sha256:{:x}", Sha256::digest(&layer));
    let config =
        serde_json::json!({ "config": { "Cmd": [content] }, "rootfs": { "diff_ids": [diff] } }).to_string();
    let names: Vec<String> =
        names.iter().map(|name| crate::image::parse_name(name).unwrap().whole()).collect();
    store.add(config.as_bytes(), &[path], &names, &[], false, &mut |_, _| {})
}

#[test]
fn images_are_found_by_every_name_they_have() {
    let Some((dir, store)) = store() else { return };
    let image = add(&store, dir.path(), "one", &["app:1"]).unwrap();
    for name in
        ["app:1", "docker.io/library/app:1", "library/app:1", &image.id, &image.id[7..], &image.id[7..19]]
    {
        assert_eq!(store.find(name).unwrap(), image, "{name}");
    }
    for name in ["app", "app:2", "other/app:1", &image.id[7..12], "", "NOT VALID"] {
        assert!(matches!(store.find(name), Err(Error::NotFound { .. })), "{name:?}");
    }
    assert_eq!(store.config(&image).unwrap().cmd.unwrap(), ["one"]);
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.list().unwrap(), [image], "a later process finds the same");
}

#[test]
fn a_name_moves_to_the_newer_image() {
    let Some((dir, store)) = store() else { return };
    let old = add(&store, dir.path(), "old", &["app:1", "app:old"]).unwrap();
    let new = add(&store, dir.path(), "new", &["app:1"]).unwrap();
    assert_eq!(store.find("app:1").unwrap().id, new.id);
    assert_eq!(store.find("app:old").unwrap().id, old.id);
}

#[test]
fn layers_go_when_nobody_needs_them() {
    let Some((dir, store)) = store() else { return };
    let image = add(&store, dir.path(), "one", &["app:1"]).unwrap();
    let layer = dir.path().join("layers").join(short(&image.layers[0]));
    assert_eq!(std::fs::read_to_string(layer.join("file")).unwrap(), "one");
    let used: BTreeSet<String> = image.layers.iter().cloned().collect();
    store.remove("app:1", &used).unwrap();
    assert!(store.find("app:1").is_err() && layer.exists(), "a container still stands on it");
    store.sweep(&BTreeSet::new()).unwrap();
    assert!(!layer.exists());
    store.remove("app:1", &BTreeSet::new()).unwrap();
}

#[test]
fn a_layer_must_be_what_the_configuration_says() {
    let Some((dir, store)) = store() else { return };
    let path = dir.path().join("layer.tar");
    std::fs::write(&path, [0; 1024]).unwrap();
    let config =
        serde_json::json!({ "rootfs": { "diff_ids": [format!("sha256:{}", "0".repeat(64))] } }).to_string();
    let result = store.add(config.as_bytes(), &[path], &[], &[], false, &mut |_, _| {});
    assert!(matches!(result, Err(Error::Digest { .. })), "{result:?}");
    assert!(store.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0, "nothing is left of it");
}

#[test]
fn chains_are_those_of_the_specification() {
    let (a, b) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
    assert_eq!(chain_id(None, &a), a);
    assert_eq!(chain_id(Some(&a), &b), format!("sha256:{:x}", Sha256::digest(format!("{a} {b}"))));
    assert_eq!(short(&a), "a".repeat(12));
}

#[test]
fn the_binary_becomes_an_image() {
    let Some((dir, store)) = store() else { return };
    let exe = dir.path().join("exe");
    std::fs::write(&exe, "#!not really\n").unwrap();
    let images = [
        SelfImage {
            name: "tiphys.local/pause".into(),
            entrypoint: vec!["/tiphys".into(), "pause".into()],
            ..SelfImage::default()
        },
        SelfImage {
            name: "tiphys.local/demo:1".into(),
            entrypoint: vec!["/tiphys".into()],
            cmd: vec!["demo".into()],
            user: "65534".into(),
        },
    ];
    let records = store.pack(&exe, &["bin/sh"], &images).unwrap();
    assert_eq!(records[0].layers, records[1].layers, "they share their layer");
    let layer = dir.path().join("layers").join(short(&records[0].layers[0]));
    assert_eq!(std::fs::read(layer.join("tiphys")).unwrap(), std::fs::read(&exe).unwrap());
    assert_eq!(std::fs::read_link(layer.join("bin/sh")).unwrap(), std::path::Path::new("/tiphys"));
    let config = store.config(&store.find("tiphys.local/demo:1").unwrap()).unwrap();
    assert_eq!((config.user.as_deref(), config.cmd.unwrap()), (Some("65534"), vec!["demo".to_owned()]));
    assert_eq!(store.pack(&exe, &["bin/sh"], &images).unwrap(), records, "packing again changes nothing");
    assert!(records.iter().all(|record| record.pinned));
}

#[test]
fn two_processes_see_each_others_images() {
    let Some((dir, store)) = store() else { return };
    let other = Store::open(dir.path()).unwrap();
    let image = add(&store, dir.path(), "one", &["app:1"]).unwrap();
    assert_eq!(other.find("app:1").unwrap(), image);
    other.remove("app:1", &BTreeSet::new()).unwrap();
    assert!(store.find("app:1").is_err());
}

#[test]
fn a_broken_record_costs_one_image() {
    let Some((dir, store)) = store() else { return };
    let whole = add(&store, dir.path(), "one", &["app:1"]).unwrap();
    let broken = add(&store, dir.path(), "two", &["app:2"]).unwrap();
    std::fs::write(dir.path().join("images").join(format!("{}.json", &broken.id[7..])), "").unwrap();
    let layer = dir.path().join("layers").join(format!("{}.json", short(&broken.layers[0])));
    std::fs::write(layer, "{").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.list().unwrap(), [whole]);
    assert_eq!(add(&store, dir.path(), "two", &["app:2"]).unwrap(), broken, "adding it again mends it");
    assert_eq!(store.list().unwrap().len(), 2);
}
