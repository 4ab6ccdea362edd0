//! Text without deceptive characters: none that hide, reverse or join others, and at least one visible one.
//!
//! Source: the Unicode Character Database 16, general categories Cf, Zl and Zp, and the property Default_Ignorable_Code_Point.

use super::text::{Text, TextError, TextRule};

/// Format characters (Cf), the separators of lines and paragraphs, and the other default-ignorable code points that are never shown: the combining
/// grapheme joiner, fillers, inherent vowels, and those that are reserved for such use. Two ids that differ only in them would look the same.
pub const FORMAT: [(u32, u32); 25] = [
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x1_10BD, 0x1_10BD),
    (0x1_10CD, 0x1_10CD),
    (0x1_3430, 0x1_343F),
    (0x1_BCA0, 0x1_BCA3),
    (0x1_D173, 0x1_D17A),
    // Tags, and code points that are not assigned yet.
    (0xE_0000, 0xE_00FF),
    (0xE_01F0, 0xE_0FFF),
];

/// Other characters that are accepted together with visible ones: the variation selectors, which choose the form of the character before them, the
/// Braille blank, and the musical notehead that is one.
pub const INVISIBLE: [(u32, u32); 6] = [
    (0x180B, 0x180D),
    (0x180F, 0x180F),
    (0x2800, 0x2800),
    (0xFE00, 0xFE0F),
    (0x1_D159, 0x1_D159),
    (0xE_0100, 0xE_01EF),
];

/// Joiners, which control the joining of letters in some scripts, and the combination of emoji.
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
    // Fast path: nearly all text is ASCII, and no ASCII character is in the tables.
    if text.is_ascii() {
        let is_visible = text.is_empty() || !text.bytes().all(|byte| char::from(byte).is_whitespace());
        return if is_visible { Ok(()) } else { Err(TextError::Invisible) };
    }
    let mut before = None;
    let mut characters = text.chars().peekable();
    let mut is_visible = false;
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

/// Parses text that is not deceptive.
///
/// # Errors
/// The first violated rule.
pub fn parse<R: TextRule>(text: &str) -> Result<Text<R>, TextError> {
    let parsed = Text::parse(text)?;
    check(text)?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_reversing_characters_are_refused() {
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
            '\u{34F}',
            '\u{115F}',
            '\u{1160}',
            '\u{17B4}',
            '\u{17B5}',
            '\u{2065}',
            '\u{3164}',
            '\u{FFA0}',
            '\u{FFF0}',
            '\u{FFF8}',
            '\u{E0000}',
            '\u{E0002}',
        ] {
            let text = format!("ev{character}il");
            assert_eq!(check(&text), Err(TextError::FormatCharacter(character)), "{text:?}");
        }
    }

    /// Default_Ignorable_Code_Point, from DerivedCoreProperties.txt of Unicode 16.
    const DEFAULT_IGNORABLE: [(u32, u32); 17] = [
        (0x00AD, 0x00AD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xFFF0, 0xFFF8),
        (0x1_BCA0, 0x1_BCA3),
        (0x1_D173, 0x1_D17A),
        (0xE_0000, 0xE_0FFF),
    ];

    #[test]
    fn of_ignorable_characters_only_variation_selectors_are_accepted() {
        for code in DEFAULT_IGNORABLE.into_iter().flat_map(|(first, last)| first..=last) {
            let character = char::from_u32(code).unwrap();
            let selects = matches!(code, 0x180B..=0x180D | 0x180F | 0xFE00..=0xFE0F | 0xE_0100..=0xE_01EF);
            let expected = if selects { Ok(()) } else { Err(TextError::FormatCharacter(character)) };
            assert_eq!(check(&format!("id{character}")), expected, "U+{code:04X}");
            assert!(check(&character.to_string()).is_err(), "U+{code:04X} alone");
        }
    }

    #[test]
    fn text_needs_a_visible_character() {
        for text in [" \u{2800} ", "\u{180B}", "\u{FE0F}", "\u{E0100}", "\u{3000}", "\u{1D159}"] {
            assert_eq!(check(text), Err(TextError::Invisible), "{text:?}");
        }
        assert_eq!(check(""), Ok(()), "left out");
    }

    #[test]
    fn names_of_all_scripts_and_emoji_are_accepted() {
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
