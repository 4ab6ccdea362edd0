//! The identity of callers: API keys, tokens and client certificates, the roles that they grant, the limits of a caller, and the verified caller that
//! is passed to the application.
//!
//! ```text
//!  file           the identity file, parsed strictly
//!  api_keys       random keys, known by their hashes
//!  jwt            signed tokens of an issuer; signatures verifies them with ring
//!  certificates   the subjects and names of client certificates
//!  limits         rate, commands in flight and open streams of one caller
//!  authenticator  credentials in, verified caller out
//!  redaction      keeps keys out of the messages about a file
//!  watch          reads changed files again
//! ```

pub mod api_keys;
pub mod authenticator;
pub mod bounds;
pub mod certificates;
pub mod file;
pub mod hash;
pub mod jwt;
pub mod limits;
pub mod principal;
mod redaction;
mod rejection;
pub mod roles;
mod signatures;
mod verified;
pub mod watch;

pub use authenticator::Authenticator;
pub use principal::Principal;
pub use rejection::Rejection;
pub use roles::{Role, Roles};
pub use verified::{Accepted, Verified};
