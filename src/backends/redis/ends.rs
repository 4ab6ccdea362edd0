//! The two ends of a stream whose entries are numbered `0-1`, `0-2`, `0-3` … without gaps: its length reveals missing entries.

use redis::Value;

use super::{script::Script, values};

pub(super) static ENDS: Script = Script::new(include_str!("ends.lua"));

/// The length of a stream and its last assigned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// How many entries there are.
    length: u64,
    /// The last assigned entry number, whether the entry exists or not.
    pub last_given: u64,
    first: Option<u64>,
    last: Option<u64>,
}

impl Ends {
    /// Reads the script's reply; `None` for a stream with numbers not assigned by us.
    pub(super) fn read(answer: Value) -> Option<Self> {
        let [length, last_given, first, last] = <[Value; 4]>::try_from(values::list(answer)?).ok()?;
        let end = |id: &Value| match values::text(id) {
            Some("") => Some(None),
            _ => values::entry_number(id).map(Some),
        };
        Some(Self {
            length: values::number(&length)?,
            last_given: values::entry_number(&last_given)?,
            first: end(&first)?,
            last: end(&last)?,
        })
    }

    /// How many entries of a log are missing.
    pub(super) const fn missing_count(&self) -> u64 {
        self.last_given.saturating_sub(self.length)
    }

    /// Describes the missing entries of a log, if any.
    pub(super) fn missing(&self) -> Option<String> {
        let Self { length, last_given, first, last } = *self;
        if length == last_given {
            return None;
        }
        let range = |first: u64, last: u64| match last - first {
            0 => format!("the entry 0-{first} of the log is missing"),
            _ => format!("the entries 0-{first} to 0-{last} of the log are missing"),
        };
        Some(match (first, last) {
            (Some(first), _) if first > 1 => range(1, first - 1),
            (_, Some(last)) if last < last_given => range(last + 1, last_given),
            (Some(_), Some(_)) => {
                let gone = last_given.saturating_sub(length);
                format!("{gone} of the {last_given} entries of the log are missing, between its first and its last one")
            }
            _ => range(1, last_given.max(1)),
        })
    }
}

#[cfg(test)]
impl Ends {
    /// The ends of a log with `length` entries, the first and the last among them.
    pub(super) const fn of(length: u64, last_given: u64) -> Self {
        Self { length, last_given, first: Some(1), last: Some(last_given) }
    }
}

#[cfg(test)]
mod tests {
    use super::Ends;

    #[test]
    fn missing_entries_are_named() {
        let ends = |length, last_given, first, last| Ends { length, last_given, first, last };
        assert_eq!(ends(0, 0, None, None).missing(), None);
        assert_eq!(ends(5, 5, Some(1), Some(5)).missing(), None);
        for (ends, expected) in [
            (ends(3, 5, Some(3), Some(5)), "the entries 0-1 to 0-2 of the log are missing"),
            (ends(4, 5, Some(1), Some(4)), "the entry 0-5 of the log is missing"),
            (
                ends(4, 5, Some(1), Some(5)),
                "1 of the 5 entries of the log are missing, between its first and its last one",
            ),
            (ends(0, 5, None, None), "the entries 0-1 to 0-5 of the log are missing"),
        ] {
            assert_eq!(ends.missing().as_deref(), Some(expected));
        }
    }
}
