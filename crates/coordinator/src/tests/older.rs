//! Directories that older versions wrote still open, and go on.

use std::io::IoSlice;

use ottla_cluster::image::Resource;
use ottla_storage::files::Open;

use super::*;

/// Copies a directory of `fixtures` to where the metadata log is looked for.
fn load(name: &str) -> FaultyFiles {
    let files = FaultyFiles::new();
    let dir = Path::new("/data").join(LOG_DIRECTORY);
    files.shared().create_dir_all(&dir).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let file = files.shared().open(&dir.join(entry.file_name()), Open::Create).unwrap();
        file.write_all_at(&mut [IoSlice::new(&bytes)], 0).unwrap();
    }
    files
}

#[tokio::test]
async fn a_directory_from_before_raft_opens_and_goes_on() {
    for name in ["before-raft/clean", "before-raft/unclean"] {
        let files = load(name);
        let (coordinator, handle) = start(&files);
        let image = handle.image();
        assert_eq!(image.index(), 7, "{name}");
        assert_eq!(names(&image), ["orders", "users"], "{name}");
        assert_eq!(image.topic_by_name("orders").unwrap().partitions.len(), 3);
        assert_eq!(image.config(&Resource::Topic("users".to_owned()))["retention.ms"], "1000");
        assert_eq!((image.next_producer_id(), image.feature(OTTLA_FEATURE)), (1000, OTTLA_FEATURE_LEVEL));
        assert_eq!(image.broker(BrokerId(1)).unwrap().epoch, 2);
        assert_eq!(create(&handle, "new").await, 8, "{name}");
        let image = handle.image();
        coordinator.stop().unwrap();

        let (_coordinator, handle) = start(&files);
        assert_eq!(handle.image(), image, "{name}");
    }
}
