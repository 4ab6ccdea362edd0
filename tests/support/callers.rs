//! Callers with API keys, for nodes that are started with `--identities`.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

use data_encoding::HEXLOWER;
use ring::digest;
use tempfile::NamedTempFile;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// A channel whose calls have the key of a caller.
pub type CallerChannel = InterceptedService<Channel, CallerKey>;

/// An identity file; it is removed when this is dropped.
pub struct Callers(NamedTempFile);

impl Callers {
    /// Callers by name, with their roles: `[("shop", "writer reader")]`. A caller with the role `customer` has its name as customer id.
    pub fn new(callers: &[(&str, &str)]) -> Self {
        let mut file = NamedTempFile::new().expect("a file");
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).expect("permissions");
        for (name, roles) in callers {
            let listed: Vec<_> = roles.split(' ').map(|role| format!("\"{role}\"")).collect();
            let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, key(name).as_bytes()).as_ref());
            let customer = if roles.contains("customer") { format!("customer = \"{name}\"\n") } else { String::new() };
            let roles = listed.join(", ");
            write!(file, "[[api_keys]]\nname = \"{name}\"\nroles = [{roles}]\n{customer}sha256 = \"{hash}\"\n")
                .expect("written");
        }
        file.flush().expect("written");
        Self(file)
    }

    /// The path of the file, for `--identities`.
    pub fn path(&self) -> &str {
        self.0.path().to_str().expect("text")
    }
}

/// The API key of a caller of [`Callers`].
pub fn key(name: &str) -> String {
    format!("orderkey_{name:-<43}")
}

/// The header with the key of a caller.
pub fn authorization(name: &str) -> String {
    format!("Bearer {}", key(name))
}

/// Sends the key of a caller with each call.
#[derive(Clone)]
pub struct CallerKey(MetadataValue<Ascii>);

impl CallerKey {
    pub fn of(name: &str) -> Self {
        Self(authorization(name).parse().expect("a header"))
    }
}

impl Interceptor for CallerKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
