//! Real data beside the project, where it is there.

use std::path::PathBuf;

/// A file of the real data, or `None`, said in a printed line: tests on it then have nothing to do.
///
/// It is looked for in `TEST_DATA_DIR` and in the folder `shared/data` beside the project.
pub fn file(name: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join("shared").join("data");
    let folder = std::env::var_os("TEST_DATA_DIR").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: no real data here ({name}); TEST_DATA_DIR says where it is");
    None
}
