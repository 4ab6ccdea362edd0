//! Dead letters as text: a table, or JSON lines.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{codec::timestamp_from_proto, proto::catga::system::v1::DeadLetter, server::rest::time::Rfc3339};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LetterLine<'a> {
    event_id: &'a str,
    r#type: &'a str,
    order_id: &'a str,
    revision: i64,
    attempts: i32,
    dead_lettered_at: Option<Rfc3339>,
    reason: &'a str,
}

pub(super) fn json_lines(letters: &[DeadLetter]) -> serde_json::Result<String> {
    let mut text = String::new();
    for letter in letters {
        let line = LetterLine {
            event_id: &letter.event_id,
            r#type: &letter.r#type,
            order_id: &letter.order_id,
            revision: letter.revision,
            attempts: letter.attempts,
            dead_lettered_at: at(letter),
            reason: &letter.reason,
        };
        text.push_str(&serde_json::to_string(&line)?);
        text.push('\n');
    }
    Ok(text)
}

fn at(letter: &DeadLetter) -> Option<Rfc3339> {
    letter.dead_lettered_at.as_ref().and_then(timestamp_from_proto).map(Rfc3339)
}

/// Columns as wide as their content; the reason last, since its length varies most.
pub(super) fn table(letters: &[DeadLetter]) -> String {
    let head = ["EVENT ID", "KIND", "ORDER", "ATTEMPTS", "TIME", "REASON"].map(str::to_owned);
    let rows = letters.iter().map(|letter| {
        let time = at(letter).map(|at| at.to_string()).unwrap_or_default();
        let texts =
            [&letter.event_id, &letter.r#type, &letter.order_id, &letter.attempts.to_string(), &time, &letter.reason];
        texts.map(|text| printable(text))
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.push_str(&row[5]);
        text.push('\n');
    }
    text
}

/// One line without terminal control sequences: a reason may quote any input of the handler.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_letter_and_no_control_sequences() {
        let letter = |event_id: &str, reason: &str| DeadLetter {
            event_id: event_id.to_owned(),
            order_id: "7".to_owned(),
            r#type: "OrderPaid".to_owned(),
            attempts: 3,
            dead_lettered_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            reason: reason.to_owned(),
            ..DeadLetter::default()
        };
        let text = table(&[letter("7-1", "no\nstock \u{1b}[2J"), letter("7-10000", "x")]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "EVENT ID  KIND       ORDER  ATTEMPTS  TIME                  REASON");
        assert_eq!(lines[1], "7-1       OrderPaid  7      3         2023-11-14T22:13:20Z  no stock  [2J");
        assert_eq!(lines.len(), 3);
    }
}
