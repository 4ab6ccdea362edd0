//! The header of the file, its first 100 bytes, checked before SQLite opens it (<https://www.sqlite.org/fileformat2.html#the_database_header>).
//!
//! SQLite opens a file with some damaged headers: read-only, as a file in another journal mode, or with live pages taken for free ones, which it then
//! overwrites. Bytes that it does not use (24 to 27, 40 to 51 but for the format, 72 to 99) are not checked; the schema version and the application id
//! are checked in `schema`.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use super::{data_dir::READ_MODEL, error::OpenError, new_store::with_suffix};
use crate::private_files;

const BYTES: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Fields that have one value in every file of ours: the first byte, the value, and the name in SQLite's documentation.
const FIXED_BYTES: [(usize, u8, &str); 4] = [
    (20, 0, "reserved space"),
    (21, 64, "maximum embedded payload fraction"),
    (22, 32, "minimum embedded payload fraction"),
    (23, 32, "leaf payload fraction"),
];
/// The same for numbers of four bytes.
const FIXED_NUMBERS: [(usize, u32, &str); 4] =
    [(44, 4, "schema format"), (52, 0, "largest root page"), (56, 1, "text encoding"), (64, 0, "incremental vacuum")];

/// Checks the header of `file`. An empty file has no header yet, and is left to the caller.
///
/// # Errors
/// [`OpenError`] says that the file is not a database, or which field of the header is damaged.
pub(super) fn check(file: &Path) -> Result<(), OpenError> {
    let mut opened = private_files::open(file).map_err(OpenError::new)?;
    let mut header = [0; BYTES];
    match opened.read_exact(&mut header) {
        Ok(()) => {}
        // SQLite itself reports such a file.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    if let Some(at) = (0..MAGIC.len()).find(|at| header[*at] != MAGIC[*at]) {
        return Err(OpenError::new(format!("it is not a database, or its header is damaged at byte {at}")));
    }
    let damage = match constants(&header) {
        // While there is a WAL, the newest header and free pages may be in it.
        None if is_at_rest(file)? => match numbers(&header) {
            None => pages(&header, &mut opened)?,
            damage => damage,
        },
        damage => damage,
    };
    let Some(what) = damage else { return Ok(()) };
    let is_derived = file.file_name().is_some_and(|name| name == READ_MODEL);
    let advice = if is_derived { "remove it; it will be rebuilt from the log" } else { "restore a backup" };
    Err(OpenError::new(format!("the header of the file is damaged ({what}): {advice}")))
}

/// The damage of the fields that never change from the first write on.
fn constants(header: &[u8; BYTES]) -> Option<String> {
    let wrong = |at: usize, name: &str, found: u32, must: &str| Some(format!("byte {at}, {name}: {found}, not {must}"));
    let page_size = page_size(header);
    if !page_size.is_power_of_two() || page_size < 512 {
        return wrong(16, "page size", page_size, "a power of two from 512 to 65536");
    }
    for (at, name) in [(18, "write version"), (19, "read version")] {
        if !matches!(header[at], 1 | 2) {
            return wrong(at, name, header[at].into(), "1 or 2");
        }
    }
    if header[18] != header[19] {
        return wrong(18, "write version", header[18].into(), &format!("the read version {}", header[19]));
    }
    for (at, must, name) in FIXED_BYTES {
        if header[at] != must {
            return wrong(at, name, header[at].into(), &must.to_string());
        }
    }
    None
}

/// The damage of the numbers that an empty database does not have yet: all tables of a new file may still be in its WAL.
fn numbers(header: &[u8; BYTES]) -> Option<String> {
    let wrong = FIXED_NUMBERS.into_iter().find(|(at, must, _)| number(header, *at) != *must);
    wrong.map(|(at, must, name)| format!("byte {at}, {name}: {}, not {must}", number(header, at)))
}

/// The damage of the numbers of pages and of the list of free pages.
fn pages(header: &[u8; BYTES], file: &mut File) -> io::Result<Option<String>> {
    let page_size = u64::from(page_size(header));
    let length = file.seek(SeekFrom::End(0))?;
    let (count, in_file) = (number(header, 28), length.div_ceil(page_size));
    // Otherwise a version of SQLite that does not write the number of pages has changed the file, and it is not used.
    let is_used = number(header, 24) == number(header, 92);
    if is_used && u64::from(count) * page_size != length {
        return Ok(Some(format!("byte 28, number of pages: {count}, and the file has {in_file} of {page_size} bytes")));
    }
    let (mut trunk, must) = (number(header, 32), number(header, 36));
    let mut free = 0_u32;
    while trunk != 0 && u64::from(trunk) <= in_file && free <= must {
        let mut start = [0; 8];
        file.seek(SeekFrom::Start(u64::from(trunk - 1) * page_size))?;
        file.read_exact(&mut start)?;
        trunk = number(&start, 0);
        free = free.saturating_add(number(&start, 4)).saturating_add(1);
    }
    if trunk != 0 || free != must {
        return Ok(Some(format!("byte 32, list of free pages: it does not have the {must} pages that it must have")));
    }
    Ok(None)
}

fn page_size(header: &[u8; BYTES]) -> u32 {
    match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => size.into(),
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Whether all of the database is in the file itself: nothing waits in a WAL, or in the journal of an interrupted transaction.
fn is_at_rest(file: &Path) -> io::Result<bool> {
    for suffix in ["-wal", "-journal"] {
        match std::fs::metadata(with_suffix(file, suffix)) {
            Ok(there) if there.len() > 0 => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
