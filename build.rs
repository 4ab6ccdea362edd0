//! Compiles `proto/` with a compiler written in Rust: protoc is not needed.

use std::{env, fs, path::PathBuf, process::Command};

const PROTOS: [&str; 7] = [
    "catga/events/v1/events.proto",
    "catga/orders/v1/types.proto",
    "catga/orders/v1/commands.proto",
    "catga/orders/v1/queries.proto",
    "catga/orders/v1/history.proto",
    "catga/ids/v1/ids.proto",
    "catga/system/v1/system.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rustc-env=ORDERSYSTEM_RUSTC={}", compiler());
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;

    // The stored events, as messages.
    let stored = out_dir.join("stored");
    fs::create_dir_all(&stored)?;
    tonic_prost_build::configure()
        .out_dir(stored)
        .build_client(false)
        .build_server(false)
        .compile_fds(descriptors.clone())?;

    // The API. Its streams carry stored events as the raw bytes of the log: encoded once, never again.
    tonic_prost_build::configure()
        .out_dir(out_dir)
        .extern_path(".catga.events.v1.OrderEvent", "crate::codec::EncodedEvent")
        .extern_path(".google.type.Money", "crate::proto::Money")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}

/// The version of the compiler, for the metric with information on the build.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    version.split_whitespace().nth(1).unwrap_or("unknown").to_owned()
}
