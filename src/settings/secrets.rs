//! Passwords and tokens from files, since every user of the machine can read a command line.

use std::{io::Read as _, path::Path};

use crate::private_files;

/// The maximum length of a password or token, in bytes.
const MAX_BYTES: u64 = 4_096;

/// The only line of a file.
///
/// # Errors
/// A description that names the file: it is unreadable, empty, too long, has more than one line, or others may write it.
pub fn read(file: &Path) -> Result<String, String> {
    let name = file.display();
    let mut text = String::new();
    let opened = private_files::open_secret(file);
    let opened = opened.and_then(|opened| Ok(opened.take(MAX_BYTES + 1).read_to_string(&mut text)?));
    match opened {
        Err(error) => return Err(format!("{name} cannot be read: {error}")),
        Ok(_) if text.len() as u64 > MAX_BYTES => return Err(format!("{name} is longer than {MAX_BYTES} bytes")),
        Ok(_) => {}
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(format!("{name} is empty"));
    }
    if line.contains(char::is_control) {
        return Err(format!("{name} holds more than one line of text"));
    }
    Ok(line.to_owned())
}
