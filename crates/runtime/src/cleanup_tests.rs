use std::path::PathBuf;

use super::mount_points;

#[test]
fn mount_points_are_read_with_their_blanks() {
    let table = b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 22 0:26 / /a\\040b/c\\134d rw - tmpfs x rw\n\
        31 22 0:27 / /plain\\x rw - tmpfs x rw\n";
    let expected: Vec<PathBuf> = ["/", "/a b/c\\d", "/plain\\x"].map(PathBuf::from).into();
    assert_eq!(mount_points(table), expected);
}
