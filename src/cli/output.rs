//! Printing: text for people, JSON for scripts, and a reader that went away.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

use super::global::Output;

/// Prints text or JSON, as asked. `text` is made only when it is wanted.
pub(super) fn print(output: Output, json: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let page = match output {
        Output::Text => text(),
        Output::Json => serde_json::to_string_pretty(json)? + "\n",
    };
    print_text(&page)
}

/// Prints text as it is.
pub(super) fn print_text(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Whether an error means that nobody reads any more.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Columns for people. Control characters in values show as `?`: they come from elsewhere and this is a terminal.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |cell: &str| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let head_row = head.iter().map(|h| (*h).to_owned()).collect();
    let all: Vec<Vec<String>> =
        std::iter::once(&head_row).chain(rows).map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let width =
        |column: usize| all.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_show_no_control_characters() {
        let rows = vec![vec!["a".to_owned(), "x\u{1b}[2J".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&["id", "name"], &rows), "id    name\na     x?[2J\nlong\n");
    }
}
