use std::fs;

use tokio::sync::mpsc;

use super::*;

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_or_another_takes_its_place() {
    let dir = std::env::temp_dir().join(format!("tiphys-follow-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("config");
    fs::write(&file, "first").unwrap();
    let (seen, mut told) = mpsc::unbounded_channel();
    let following = tokio::spawn(follow(file.clone(), b"first".to_vec(), move |text| {
        let text = String::from_utf8_lossy(text).into_owned();
        anyhow::ensure!(!text.is_empty() && text != "bad", "that is no configuration");
        seen.send(text).unwrap();
        Ok(())
    }));
    // Whether the watch is there already or not: what is in the file counts.
    fs::write(&file, "second").unwrap();
    assert_eq!(told.recv().await.unwrap(), "second");
    fs::write(&file, "bad").unwrap();
    let other = dir.join("other");
    fs::write(&other, "third").unwrap();
    fs::rename(&other, &file).unwrap();
    assert_eq!(told.recv().await.unwrap(), "third");
    following.abort();
    fs::remove_dir_all(&dir).unwrap();
}
