//! Errors of connections in plain words, for operators: those of the system and of client libraries are terse.

/// The prefixes that libraries put in front of an error of the system.
const PREFIXES: [&str; 4] = ["IO error: ", "I/O error: ", "TLS error: ", "IO: "];

/// `error` in plain words, without the number of the system's error.
#[must_use]
pub fn plainly(error: &str) -> String {
    let lower = error.to_ascii_lowercase();
    let words = [
        ("connection refused", "connection refused"),
        ("connection reset", "connection reset: the server ended it"),
        ("broken pipe", "the server has closed the connection"),
        ("unexpected end of file", "the server has closed the connection"),
        ("early eof", "the server has closed the connection"),
        ("unexpectedly terminated", "the server has closed the connection"),
        ("no route to host", "there is no route to the host"),
        ("network is unreachable", "there is no route to the host"),
        ("host is unreachable", "there is no route to the host"),
        ("failed to lookup address", "the name of the host cannot be resolved"),
        ("timed out", "no answer in time"),
        ("deadline has elapsed", "no answer in time"),
    ];
    if let Some((_, words)) = words.iter().find(|(said, _)| lower.contains(said)) {
        return (*words).to_owned();
    }
    let bare = PREFIXES.iter().fold(error, |text, prefix| text.trim_start_matches(prefix));
    bare.split(" (os error ").next().unwrap_or(bare).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_the_system_and_no_word_of_a_library_is_left() {
        for (error, words) in [
            ("Connection refused (os error 111)", "connection refused"),
            ("IO error: Broken pipe (os error 32)", "the server has closed the connection"),
            ("Multiplexed connection driver unexpectedly terminated", "the server has closed the connection"),
            (
                "failed to lookup address information: Name or service not known",
                "the name of the host cannot be resolved",
            ),
            ("request timed out: deadline has elapsed", "no answer in time"),
            ("IO error: Too many open files (os error 24)", "Too many open files"),
            ("something else", "something else"),
        ] {
            assert_eq!(plainly(error), words);
        }
    }
}
