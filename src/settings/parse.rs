//! Parsers that several settings share. Their errors continue "key: ".

/// An integer; the range of the setting must fit `T`, which a test verifies for the ends of all ranges.
///
/// # Errors
/// If the number does not fit.
pub fn integer<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{} is out of range", quoted(text)))
}

/// The quoted value, safe to print on one line.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.escape_debug())
}

/// The entries of a comma separated list; empty for an empty text.
#[must_use]
pub fn list(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

/// A name of 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
///
/// # Errors
/// For any other text.
pub fn short_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not 1 to 64 of A-Z a-z 0-9 . _ -", quoted(text)))
    }
}
