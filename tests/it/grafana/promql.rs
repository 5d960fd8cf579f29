//! As much of PromQL as tells which series an expression reads: selectors with their matchers, and labels it groups by.
//!
//! Not a parser: whether an expression is valid is Prometheus's to say.

/// A comparison in braces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matcher {
    pub label: String,
    pub operator: String,
    pub value: String,
}

/// What an expression reads.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Reads {
    pub selectors: Vec<(String, Vec<Matcher>)>,
    /// Labels of `by`, `on` and the like.
    pub grouping: Vec<String>,
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];

/// What `text` reads.
pub fn reads(text: &str) -> Reads {
    let mut found = Reads::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let name_ends = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
        if name_ends == 0 || first.is_ascii_digit() {
            rest = match first {
                '"' => behind(rest, '"'),
                '[' => behind(rest, ']'),
                // Numbers with their exponents and units are no names.
                c if c.is_ascii_digit() => &rest[name_ends..],
                c => &rest[c.len_utf8()..],
            };
            continue;
        }
        let (name, after) = rest.split_at(name_ends);
        let after = after.trim_start();
        rest = after;
        if GROUPING.contains(&name) {
            if let Some((labels, after)) = after.strip_prefix('(').and_then(|list| list.split_once(')')) {
                found.grouping.extend(labels.split(',').map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()));
                rest = after;
            }
        } else if let Some(inside) = after.strip_prefix('{') {
            let (matchers, after) = matchers(inside);
            found.selectors.push((name.to_owned(), matchers));
            rest = after;
        } else if !after.starts_with('(') && !OPERATORS.contains(&name) && !is_aggregation(after) {
            found.selectors.push((name.to_owned(), Vec::new()));
        }
    }
    found
}

/// Whether the word before `after` is a function: `sum by (…) (…)`.
fn is_aggregation(after: &str) -> bool {
    let next = after.split(|c| !is_of_name(c)).next().unwrap_or_default();
    GROUPING.contains(&next)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The text behind the second `mark`, where the first letter opens what it closes.
fn behind(text: &str, mark: char) -> &str {
    text[1..].split_once(mark).map_or("", |(_, after)| after)
}

/// The matchers up to the closing brace, and what follows it.
fn matchers(mut text: &str) -> (Vec<Matcher>, &str) {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',', '\n']);
        if let Some(after) = text.strip_prefix('}') {
            return (found, after);
        }
        let (head, after) = text.split_once('"').expect("a matcher has a quoted value");
        let (value, after) = after.split_once('"').expect("a value ends with a quote");
        let label = head.trim_end_matches(['=', '~', '!', ' ']);
        let operator = head[label.len()..].trim().to_owned();
        found.push(Matcher { label: label.to_owned(), operator, value: value.to_owned() });
        text = after;
    }
}

#[test]
fn selectors_and_groupings_are_found() {
    let text = r#"sum by (le, a) (rate(x_bucket{l=~"1|2", m!="}"}[5m])) / on (b) clamp_min(y, 1e3) or 0 * z{} > 2"#;
    let found = reads(text);
    let matcher = |label: &str, operator: &str, value: &str| Matcher {
        label: label.to_owned(),
        operator: operator.to_owned(),
        value: value.to_owned(),
    };
    let of_x = vec![matcher("l", "=~", "1|2"), matcher("m", "!=", "}")];
    let expected = [("x_bucket", of_x), ("y", Vec::new()), ("z", Vec::new())];
    assert_eq!(found.selectors, expected.map(|(name, matchers)| (name.to_owned(), matchers)));
    assert_eq!(found.grouping, ["le", "a", "b"]);
}
