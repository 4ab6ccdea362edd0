//! The address of a broker, which may contain a password.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The form of a broker's addresses: `host[:port]` or `scheme://[user:password@]host[:port][/…]`, perhaps several hosts, comma separated.
#[derive(Debug)]
pub struct UrlForm {
    /// The schemes. The first one is the default.
    pub schemes: &'static [&'static str],
    /// Whether several addresses may be given, separated by commas, each of which may have a scheme, a user and a password.
    pub takes_many: bool,
    /// The only option that is accepted after a `?`. Others may be passwords, and would be ignored.
    pub option: Option<&'static str>,
    /// Checks what comes after user and password, given the scheme.
    pub check: fn(&str, &str) -> Result<(), String>,
}

impl UrlForm {
    /// Validates an address.
    ///
    /// # Errors
    /// A description of the error, without the value.
    pub fn parse(&self, text: &str) -> Result<ServerUrl, String> {
        let main = self.schemes.first().copied().unwrap_or_default();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("contains white space or a control character: write each as %XX, a space as %20".to_owned());
        }
        if text.to_ascii_lowercase().contains("password=") {
            return Err(format!("takes no password option: write {main}://user:password@host:port"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) if self.schemes.contains(&scheme) => (scheme, rest),
            Some(_) => return Err(format!("must begin with {}://", self.schemes.join(":// or "))),
            None if text.contains('@') => return Err(format!("with a password must begin with {main}://")),
            None => (main, text),
        };
        // Everything up to the last '@' is user and password: passwords contain '@' and '/' more often than paths contain '@'.
        let host_and_path = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let authority = host_and_path.split(['/', '?', ',']).next().unwrap_or_default();
        self.check_options(host_and_path)?;
        // Without a scheme it contains no password that must be hidden.
        let shown = |why| if text.contains("://") { why } else { format!("{why}: '{text}'") };
        check_authority(authority).map_err(shown)?;
        (self.check)(scheme, host_and_path)?;
        Ok(ServerUrl { text: text.to_owned(), schemes: if self.takes_many { self.schemes } else { &[] } })
    }

    fn check_options(&self, host_and_path: &str) -> Result<(), String> {
        let is_accepted = |given: &str| {
            let name = given.split_once('=').map(|(name, _)| name);
            name.is_some() && name == self.option && !given.contains('&')
        };
        match host_and_path.split_once('?') {
            Some((_, given)) if !is_accepted(given) => {
                Err("takes no options after a '?'; see the settings for passwords and tokens".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// The address of a broker. `Debug` and `Display` hide the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    text: String,
    /// The schemes with which a further address may begin.
    schemes: &'static [&'static str],
}

impl ServerUrl {
    /// The user, if the address has no password: for NATS that is a token, unless the password is elsewhere.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.login()
    }

    /// Whether it contains a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.login().is_some_and(|login| login.contains(':'))
    }

    /// Adds `password` for the user that it names.
    ///
    /// # Errors
    /// If it already contains a password.
    pub fn with_password(&self, password: &str, scheme: &str) -> Result<Self, String> {
        let user = self.login().unwrap_or_default();
        if user.contains([':', ',']) {
            return Err(TWICE.to_owned());
        }
        Ok(self.with_login(&format!("{user}:{}", utf8_percent_encode(password, NON_ALPHANUMERIC)), scheme))
    }

    /// Adds a token in place of a user.
    ///
    /// # Errors
    /// If it already names a user or contains a token.
    pub fn with_token(&self, token: &str, scheme: &str) -> Result<Self, String> {
        if self.login().is_some() {
            return Err(TWICE.to_owned());
        }
        Ok(self.with_login(&utf8_percent_encode(token, NON_ALPHANUMERIC).to_string(), scheme))
    }

    /// The part before the last '@'.
    fn login(&self) -> Option<&str> {
        let (_, rest) = self.text.split_once("://")?;
        rest.rsplit_once('@').map(|(login, _)| login)
    }

    fn with_login(&self, login: &str, scheme: &str) -> Self {
        let (scheme, rest) = self.text.split_once("://").unwrap_or((scheme, &self.text));
        let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
        Self { text: format!("{scheme}://{login}@{hosts}"), schemes: self.schemes }
    }

    /// The whole address with the password, only for the client library.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The addresses. Only a comma before a scheme separates them: passwords may contain commas.
    fn addresses(&self) -> Vec<&str> {
        let begins = |rest: &str| {
            self.schemes.iter().any(|scheme| rest.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
        };
        let (mut addresses, mut from) = (Vec::new(), 0);
        for (comma, _) in self.text.match_indices(',').filter(|(comma, _)| begins(&self.text[comma + 1..])) {
            addresses.push(&self.text[from..comma]);
            from = comma + 1;
        }
        addresses.push(&self.text[from..]);
        addresses
    }
}

const TWICE: &str = "the address also has a password or token: give it only once";

/// Checks `host[:port]`.
///
/// # Errors
/// A description of the error, without the value.
pub fn check_authority(authority: &str) -> Result<(), String> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colons within the brackets of an IPv6 address do not precede a port.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(_) => Err("has a port that is not from 1 to 65535".to_owned()),
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses();
        if let [one] = *addresses {
            return f.write_str(&shown(one));
        }
        let shown: Vec<_> = addresses.into_iter().map(shown_of_many).collect();
        f.write_str(&shown.join(","))
    }
}

/// An address without its password.
fn shown(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let Some((userinfo, host)) = rest.rsplit_once('@') else { return address.to_owned() };
    match userinfo.split_once(':') {
        // With a ',' this is the first of several addresses: hide more rather than less.
        Some((user, _)) if !userinfo.contains(',') => format!("{scheme}://{user}:***@{host}"),
        // A lone word before the '@' is a token.
        _ => format!("{scheme}://***@{host}"),
    }
}

/// The same for one of several addresses. Without an '@' it may be a part of a password, unless it has hosts only.
fn shown_of_many(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return "***".to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None if rest.split(',').all(|host| check_authority(host).is_ok()) => address.to_owned(),
        None => format!("{scheme}://***"),
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}
