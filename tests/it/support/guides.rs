//! Documents as tests read them: blocks of a language, and what stands before each.

use std::path::Path;

/// A block of a document.
pub struct Block {
    /// The document and the line it begins in.
    pub place: String,
    pub text: String,
    /// The comment before it, as `<!-- not run: reason -->`; empty where there is none.
    pub marker: String,
}

impl Block {
    /// Why it is not run, where it says so.
    pub fn left_out(&self) -> Option<&str> {
        self.marker.strip_prefix("<!-- not run: ")?.strip_suffix(" -->").filter(|reason| reason.len() > 10)
    }
}

/// A file of the repository.
pub fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The blocks of a language.
pub fn blocks_of(language: &str, name: &str, text: &str) -> Vec<Block> {
    let begin = format!("```{language}");
    let (mut blocks, mut open, mut before): (Vec<Block>, Option<(usize, String)>, &str) = (Vec::new(), None, "");
    for (number, line) in (1..).zip(text.lines()) {
        match &mut open {
            Some((_, text)) if line.trim() == "```" => {
                let text = std::mem::take(text);
                let place = format!("{name}:{}", number - text.lines().count() - 1);
                blocks.push(Block { place, text, marker: before.to_owned() });
                (open, before) = (None, "");
            }
            Some((indent, text)) => {
                text.push_str(line.get(*indent..).unwrap_or_default());
                text.push('\n');
            }
            None if line.trim() == begin => open = Some((line.len() - line.trim_start().len(), String::new())),
            None if line.trim().starts_with("<!--") => before = line.trim(),
            None if line.trim().is_empty() => {}
            None => before = "",
        }
    }
    assert!(open.is_none(), "{name}: a block does not end");
    blocks
}
