//! Keeps keys and tokens out of error messages: somebody may have written one where the identity file has something else.

use super::api_keys::PREFIX;

/// The number of characters from which a text of letters and digits looks like a key. The names in the file are shorter.
const MIN_KEY_CHARS: usize = 32;

/// The message with `***` in place of each part that looks like a key, a token, or a hash.
#[must_use]
pub fn without_keys(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    for part in message.split_inclusive(|letter: char| !is_of_key(letter)) {
        let word = part.trim_end_matches(|letter: char| !is_of_key(letter));
        shown.push_str(if looks_like_key(word) { "***" } else { word });
        shown.push_str(&part[word.len()..]);
    }
    shown
}

/// Whether `letter` may be in a key, in base64 of either alphabet, in hexadecimal digits, or in a token, whose parts dots separate.
const fn is_of_key(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '+' | '/' | '=' | '.')
}

fn looks_like_key(word: &str) -> bool {
    let is_mixed = word.contains(|letter: char| letter.is_ascii_digit())
        && word.contains(|letter: char| letter.is_ascii_alphabetic());
    word.contains(PREFIX) || word.len() >= MIN_KEY_CHARS && is_mixed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::api_keys::NewKey;

    #[test]
    fn keys_tokens_and_hashes_are_hidden_and_nothing_else() {
        let key = NewKey::draw().unwrap();
        let hash = key.hash().to_hex();
        let token = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.c2lnbmF0dXJl";
        for secret in [key.as_str(), &key.as_str()[..20], &key.as_str()[9..], &hash, token] {
            let message = format!("unknown variant `{secret}`, expected `reader` or `max_lifetime_seconds`");
            assert_eq!(without_keys(&message), "unknown variant `***`, expected `reader` or `max_lifetime_seconds`");
            assert_eq!(without_keys(secret), "***");
        }
        let plain = "'2027-01-31' is not a date and time with an offset, as in 2027-01-31T00:00:00Z: é…";
        assert_eq!(without_keys(plain), plain);
        assert_eq!(without_keys(""), "");
    }
}
