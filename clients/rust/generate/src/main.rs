//! Generates the messages and stubs of the client from the protos, with a compiler written in Rust: protoc is not needed.
//!
//! usage: `generate PROTO_DIR OUT_DIR PROTO...`

use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(proto_dir), Some(out_dir)) = (arguments.next(), arguments.next()) else {
        return Err("usage: generate PROTO_DIR OUT_DIR PROTO...".into());
    };
    let descriptors = protox::compile(arguments, [proto_dir])?;
    fs::create_dir_all(&out_dir)?;
    tonic_prost_build::configure()
        .out_dir(out_dir)
        .include_file("mod.rs")
        // Channels come from `connect`; the stubs cannot open one themselves.
        .build_transport(false)
        .build_server(false)
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(descriptors)?;
    Ok(())
}
