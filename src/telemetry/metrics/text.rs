//! The text of `/metrics`, in a stable order: by name, then by labels.
//!
//! Source: Prometheus text-based exposition format 0.0.4.

use std::{collections::BTreeMap, fmt::Write as _};

use metrics::Key;

use super::histogram::Counted;

/// All families, by name.
#[derive(Debug, Default)]
pub(super) struct Families<'a>(BTreeMap<&'a str, Family<'a>>);

/// The series of one metric.
#[derive(Debug, Default)]
struct Family<'a> {
    /// The lines with its help and type.
    head: Vec<&'a str>,
    /// The lines of each series, by its labels.
    series: BTreeMap<String, String>,
}

impl<'a> Families<'a> {
    /// Adds the counters and gauges in `text`, as written by the exporter, one line for each series.
    pub fn add(&mut self, text: &'a str) {
        let mut current = "";
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(about) = line.strip_prefix("# ") {
                current = about.split(' ').nth(1).unwrap_or_default();
                self.0.entry(current).or_default().head.push(line);
                continue;
            }
            let labels = line.strip_prefix(current).unwrap_or(line);
            self.0.entry(current).or_default().series.insert(labels.to_owned(), format!("{line}\n"));
        }
    }

    /// Adds a series of the histogram `key`.
    pub fn add_histogram(&mut self, key: &'a Key, head: &'a str, counted: &Counted) {
        let family = self.0.entry(key.name()).or_default();
        family.head = vec![head];
        let labels = labels(key);
        let mut text = String::new();
        let name = key.name();
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in &counted.up_to {
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", counted.count);
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "{name}_sum{braced} {}", counted.sum);
        let _ = writeln!(text, "{name}_count{braced} {}", counted.count);
        family.series.insert(labels, text);
    }

    /// The whole text.
    pub fn write(&self) -> String {
        let mut text = String::with_capacity(64 * 1024);
        for family in self.0.values().filter(|family| !family.series.is_empty()) {
            for line in &family.head {
                text.push_str(line);
                text.push('\n');
            }
            for series in family.series.values() {
                text.push_str(series);
            }
        }
        text
    }
}

/// The labels of a series, without braces.
fn labels(key: &Key) -> String {
    let mut text = String::new();
    for label in key.labels() {
        let comma = if text.is_empty() { "" } else { "," };
        let value = label.value().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{comma}{}=\"{value}\"", label.key());
    }
    text
}
