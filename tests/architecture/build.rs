//! What the build is given besides the sources.

use std::fs;

#[test]
fn sqlite_is_compiled_with_the_flags_of_the_repository_and_in_the_image_as_well() {
    // Without them SQLite syncs with fsync, which is as safe and costs more.
    let flags = option_env!("LIBSQLITE3_FLAGS").unwrap_or_default();
    assert!(flags.contains("-DHAVE_FDATASYNC=1"), "LIBSQLITE3_FLAGS of .cargo/config.toml: '{flags}'");
    let file = fs::read_to_string("Dockerfile").unwrap();
    let (before, _) = file.split_once("cargo build").expect("a build");
    assert!(before.contains("\nCOPY .cargo .cargo\n"), "the image builds its dependencies without .cargo/config.toml");
    assert!(fs::read_to_string(".dockerignore").unwrap().lines().any(|line| line == "!.cargo"));
}
