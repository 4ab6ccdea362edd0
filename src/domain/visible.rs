//! Text without deceptive characters: none that hide, reverse or join others, and at least one visible one.
//!
//! Source: the Unicode Character Database 16, general categories Cf, Zl and Zp, and the property Default_Ignorable_Code_Point.

use super::text::TextError;

/// Format characters (Cf), and the separators of lines and paragraphs.
pub const FORMAT: [(u32, u32); 23] = [
    (0x00AD, 0x00AD),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x1_10BD, 0x1_10BD),
    (0x1_10CD, 0x1_10CD),
    (0x1_3430, 0x1_343F),
    (0x1_BCA0, 0x1_BCA3),
    (0x1_D173, 0x1_D17A),
    (0xE_0001, 0xE_0001),
    (0xE_0020, 0xE_007F),
    // Not assigned yet, and ignored in display.
    (0xE_0080, 0xE_00FF),
    (0xE_01F0, 0xE_0FFF),
];

/// Other invisible characters: fillers, joiners, variation selectors, the Braille blank.
pub const INVISIBLE: [(u32, u32); 10] = [
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2065, 0x2065),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE_0100, 0xE_01EF),
];

/// They control the joining of letters in some scripts, and the combination of emoji.
const JOINERS: [char; 2] = ['\u{200C}', '\u{200D}'];

fn is_in(table: &[(u32, u32)], character: char) -> bool {
    let code = u32::from(character);
    // Most text needs one comparison per character.
    code >= table[0].0 && table.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// Refuses deceptive text. Joiners are accepted between two characters that are not ASCII.
///
/// # Errors
/// [`TextError::FormatCharacter`] or [`TextError::Invisible`].
pub fn check(text: &str) -> Result<(), TextError> {
    let mut before = None;
    let mut characters = text.chars().peekable();
    let mut is_visible = text.is_empty();
    while let Some(character) = characters.next() {
        let joins = |beside: Option<char>| {
            beside.is_some_and(|beside| !beside.is_ascii() && !beside.is_whitespace() && !is_in(&FORMAT, beside))
        };
        let is_joiner = JOINERS.contains(&character) && joins(before) && joins(characters.peek().copied());
        if is_in(&FORMAT, character) && !is_joiner {
            return Err(TextError::FormatCharacter(character));
        }
        is_visible |= !is_joiner && !character.is_whitespace() && !is_in(&INVISIBLE, character);
        before = Some(character);
    }
    if is_visible { Ok(()) } else { Err(TextError::Invisible) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_or_reverses_text_is_refused() {
        for character in [
            '\u{202E}',
            '\u{202A}',
            '\u{2066}',
            '\u{2069}',
            '\u{200B}',
            '\u{200E}',
            '\u{2028}',
            '\u{FEFF}',
            '\u{AD}',
            '\u{E0041}',
            '\u{2060}',
            '\u{61C}',
            '\u{180E}',
        ] {
            let text = format!("ev{character}il");
            assert_eq!(check(&text), Err(TextError::FormatCharacter(character)), "{text:?}");
        }
    }

    #[test]
    fn text_has_something_to_see() {
        for text in ["\u{3164}", " \u{2800} ", "\u{115F}\u{1160}", "\u{FE0F}", "\u{3000}"] {
            assert_eq!(check(text), Err(TextError::Invisible), "{text:?}");
        }
        assert_eq!(check(""), Ok(()), "left out");
    }

    #[test]
    fn names_of_all_scripts_and_emoji_are_taken() {
        for text in [
            "O'Brien",
            "Ærø ﬁ",
            "می\u{200C}خواهم",
            "ക\u{200D}ഷ",
            "李小龍",
            "👩\u{200D}👩\u{200D}👧",
            "❤\u{FE0F}",
            "한글",
            "José",
        ] {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
        for text in ["a\u{200D}b", "\u{200D}", "é\u{200D}", "é\u{200D}\u{200D}é"] {
            assert!(check(text).is_err(), "{text:?}");
        }
    }
}
