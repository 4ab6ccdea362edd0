//! One folder for each backend; each implements the traits over bytes and knows neither the domain nor the others.

pub mod embedded;
pub mod memory;
pub mod nats;
pub mod redis;
