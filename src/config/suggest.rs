//! What to say of a key that is none: the nearest one, if any is near. Pure.

use super::entries;
use super::keys::KEYS;

/// The words for an unknown key.
pub(super) fn unknown(path: &str) -> String {
    let written = path.to_ascii_lowercase();
    // The keys of a list of tables are compared with the number that was written.
    let number = entries::split(&written).map_or(0, |(number, _)| number);
    let listed = entries::KEYS.iter().map(|key| entries::numbered(key.path, number));
    let known = KEYS.iter().map(|key| key.path.to_owned()).chain(listed).chain([entries::NAME.to_owned()]);
    let bare = written.rsplit('.').next().unwrap_or_default();
    let distance = |key: &String| {
        let whole = edits(&written, key);
        // The right key in the wrong section is a near miss too.
        let same_name = key.rsplit('.').next() == Some(bare);
        if same_name { whole.min(2) } else { whole }
    };
    let nearest = known.map(|key| (distance(&key), key)).min_by_key(|(distance, _)| *distance);
    match nearest.filter(|(distance, _)| *distance <= 1 + written.len() / 4) {
        Some((_, key)) if key == entries::NAME => format!("is not a key; did you mean `[[{key}]]`?"),
        Some((_, key)) => format!("is not a key; did you mean `{key}`?"),
        None => "is not a key; `iot-meter check-config --print-default` lists them all".to_owned(),
    }
}

/// Levenshtein distance: least insertions, deletions and replacements from one text to the other.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
