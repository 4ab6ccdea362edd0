//! The parts of JSON text that has been parsed before, and so is well-formed: this only finds their ends, and does not check the grammar again.

/// The elements of an array, or the names and values of an object in turn, each as written.
#[derive(Clone, Debug)]
pub struct Parts<'a>(&'a str);

impl<'a> Parts<'a> {
    /// The parts of the array or object `text`; none if it is neither.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        Self(text.trim_start().strip_prefix(['[', '{']).unwrap_or_default())
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        // The characters between two parts are known.
        let is_between = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':');
        let between = self.0.bytes().take_while(is_between).count();
        let rest = self.0.get(between..)?;
        let length = length_of_value(rest.as_bytes());
        let (part, rest) = rest.split_at_checked(length).filter(|(part, _)| !part.is_empty())?;
        self.0 = rest;
        Some(part)
    }
}

/// The length of the value at the beginning of `bytes`; 0 at the end of an array or object.
fn length_of_value(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'"') => length_of_string(bytes),
        Some(b'[' | b'{') => length_of_nested(bytes),
        _ => {
            let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
            bytes.iter().position(is_end).unwrap_or(bytes.len())
        }
    }
}

fn length_of_string(bytes: &[u8]) -> usize {
    let mut at = 1;
    loop {
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            // An escaped quote is not the end.
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return bytes.len(),
        }
    }
}

fn length_of_nested(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += length_of_string(&bytes[at..]);
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        Parts::of(text).collect()
    }

    #[test]
    fn parts_are_cut_where_they_end() {
        assert_eq!(parts("[]"), [""; 0]);
        assert_eq!(parts(" { } "), [""; 0]);
        assert_eq!(parts("5"), [""; 0]);
        assert_eq!(parts(r#"[1, -2.5e3,null ,true]"#), ["1", "-2.5e3", "null", "true"]);
        let nested = r#"[ [1,[2]] , {"a":"]}\"","b":[{}]},"é\\", "\"" ]"#;
        assert_eq!(parts(nested), ["[1,[2]]", r#"{"a":"]}\"","b":[{}]}"#, r#""é\\""#, r#""\"""#]);
        assert_eq!(parts(r#"{"a" : 1,"b":{"c":2}}"#), [r#""a""#, "1", r#""b""#, r#"{"c":2}"#]);
    }

    #[test]
    fn malformed_text_has_a_bounded_number_of_parts() {
        for text in ["[", "{\"a", "[\"\\", "[\"é\\é", "[[[", "{\"a\":[}", "[é"] {
            assert!(Parts::of(text).count() < text.len() + 1, "{text}");
        }
    }
}
