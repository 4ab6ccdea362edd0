//! The files of the console, which are part of the program.

use std::{io::Write as _, sync::LazyLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::HeaderValue;
use xxhash_rust::xxh3::xxh3_128;

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file, as served.
#[derive(Debug)]
pub struct File {
    name: &'static str,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The content.
    pub text: &'static str,
    /// The content, compressed with gzip.
    pub gzip: Bytes,
    /// The entity tag, which differs if the content does.
    pub tag: HeaderValue,
}

macro_rules! files {
    ($($name:literal: $content_type:expr,)*) => { [$(($name, $content_type, include_str!(concat!("files/", $name)))),*] };
}

/// The only place that names the files.
const FILES: [(&str, &str, &str); 23] = files! {
    "index.html": HTML,
    "console.css": STYLE,
    "actions.js": SCRIPT,
    "admin.js": SCRIPT,
    "api.js": SCRIPT,
    "chart.js": SCRIPT,
    "create.js": SCRIPT,
    "dom.js": SCRIPT,
    "feed.js": SCRIPT,
    "grpc.js": SCRIPT,
    "keyboard.js": SCRIPT,
    "letters.js": SCRIPT,
    "main.js": SCRIPT,
    "metrics.js": SCRIPT,
    "operations.js": SCRIPT,
    "order.js": SCRIPT,
    "orders.js": SCRIPT,
    "router.js": SCRIPT,
    "server.js": SCRIPT,
    "stream.js": SCRIPT,
    "text.js": SCRIPT,
    "theme.js": SCRIPT,
    "worker.js": SCRIPT,
};

/// Compressed once, on the first request.
static SERVED: LazyLock<Vec<File>> = LazyLock::new(|| FILES.iter().map(prepared).collect());

fn prepared(&(name, content_type, text): &(&'static str, &'static str, &'static str)) -> File {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail.
    let gzip = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default();
    let tag = format!("\"{:032x}\"", xxh3_128(text.as_bytes()));
    let tag = HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
    File { name, content_type, text, gzip: gzip.into(), tag }
}

/// The file with this name; `None` if it does not exist.
pub fn find(name: &str) -> Option<&'static File> {
    SERVED.iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/dashboard/files");
        let found: BTreeSet<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(found, FILES.iter().map(|(name, ..)| (*name).to_owned()).collect());
    }

    #[test]
    fn all_files_together_are_less_than_100_kb_compressed() {
        let bytes: usize = SERVED.iter().map(|file| file.gzip.len()).sum();
        assert!(SERVED.iter().all(|file| !file.gzip.is_empty()));
        assert!(bytes < 100_000, "{bytes}");
    }

    #[test]
    fn scripts_import_only_files_that_are_served_and_never_make_markup() {
        for file in SERVED.iter().filter(|file| file.content_type == SCRIPT) {
            for line in file.text.lines() {
                if let Some((_, path)) = line.split_once(" from \"") {
                    let name = path.trim_end_matches("\";").trim_start_matches("./");
                    assert!(find(name).is_some(), "{}: {line}", file.name);
                }
            }
            for maker in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!file.text.contains(maker), "{}: {maker}", file.name);
            }
        }
    }
}
