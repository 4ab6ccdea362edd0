//! The Rust side of `proto/`, generated at build time.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

/// Every file of `proto/`, encoded as a `google.protobuf.FileDescriptorSet`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod catga {
    pub mod events {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/stored/catga.events.v1.rs"));
        }
    }
    pub mod ids {
        pub mod v1 {
            tonic::include_proto!("catga.ids.v1");
        }
    }
    pub mod orders {
        pub mod v1 {
            tonic::include_proto!("catga.orders.v1");
        }
    }
    pub mod system {
        pub mod v1 {
            tonic::include_proto!("catga.system.v1");
        }
    }
}

pub mod google {
    pub mod r#type {
        include!(concat!(env!("OUT_DIR"), "/stored/google.r#type.rs"));
    }
}

pub use google::r#type::Money;
