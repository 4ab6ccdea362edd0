//! The token of a channel, which goes with each of its calls.

use std::{fmt, fs, path::PathBuf, sync::Arc};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tonic::Status;

/// The source of the tokens of a channel.
#[derive(Clone)]
pub(crate) struct Token(Arc<dyn Fn() -> Result<String, Status> + Send + Sync>);

impl Token {
    pub(crate) fn new(source: impl Fn() -> Result<String, Status> + Send + Sync + 'static) -> Token {
        Token(Arc::new(source))
    }

    /// Adds the token of this moment to the headers of an attempt, unless it is empty.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) -> Result<(), Status> {
        let token = (self.0)()?;
        if token.is_empty() {
            return Ok(());
        }
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Status::unauthenticated("the token has characters that a header cannot have"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A source for [`Channel::with_token`](crate::Channel::with_token) that reads the token from a file for each attempt: a token that is
/// renewed there is used at once. Replace the file by renaming another one to its name, so that no call reads half of it.
///
/// A file that cannot be read ends the call with UNAUTHENTICATED.
pub fn token_file(path: impl Into<PathBuf>) -> impl Fn() -> Result<String, Status> + Send + Sync + 'static {
    let path = path.into();
    move || {
        let token = fs::read_to_string(&path)
            .map_err(|error| Status::unauthenticated(format!("no token in {}: {error}", path.display())))?;
        Ok(token.trim().to_owned())
    }
}
