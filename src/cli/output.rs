//! The output of commands.

use std::io::{self, ErrorKind, Write as _};

/// Prints to standard output. A reader that has closed its end, as `| head` does, is not an error.
///
/// # Errors
/// If standard output accepts no more, such as a full disk.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
