//! Settings from files and the environment: whatever their content, the result is a configuration or a readable error.
//!
//! The first byte of the input chooses between TOML, JSON and the environment.

#![no_main]

use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use ordersystem::config::{Config, FlagValues};

fuzz_target!(|input: &[u8]| {
    let [how, text @ ..] = input else { return };
    let loaded = match how % 3 {
        0 | 1 => {
            let name = if how % 3 == 0 { "fuzz.toml" } else { "appsettings.json" };
            let folder = std::env::temp_dir().join(format!("ordersystem-fuzz-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder");
            let path = folder.join(name);
            std::fs::File::create(&path).and_then(|mut file| file.write_all(text)).expect("a file");
            Config::load(&FlagValues { config_file: Some(path), values: Vec::new() }, []).map(|_| ())
        }
        _ => {
            let text = String::from_utf8_lossy(text);
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            // Host names are resolved, which a fuzzer should not do.
            let pairs = pairs.filter(|(name, _)| *name != "ORDERSYSTEM_BIND");
            let variables: Vec<_> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
            Config::load(&FlagValues { config_file: None, values: Vec::new() }, variables).map(|_| ())
        }
    };
    if let Err(error) = loaded {
        assert!(!error.to_string().is_empty());
    }
});
