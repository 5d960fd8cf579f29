//! Bodies cut anywhere, and bodies that are none.

use proptest::prelude::*;

use super::*;

/// Parts with their contents; `Err` = refused, or not complete.
fn read(body: &[u8], cuts: &[usize]) -> Result<Vec<(String, Vec<u8>)>, &'static str> {
    let mut reader = Reader::new("B");
    let (mut parts, mut at): (Vec<(String, Vec<u8>)>, usize) = (Vec::new(), 0);
    for end in cuts.iter().copied().chain([body.len()]) {
        let end = end.clamp(at, body.len());
        for event in reader.push(&body[at..end]).map_err(|Malformed(why)| why)? {
            match event {
                Event::Part(name) => parts.push((name, Vec::new())),
                Event::Data(bytes) => parts.last_mut().unwrap().1.extend_from_slice(&bytes),
                Event::End => {}
            }
        }
        at = end;
    }
    if reader.is_complete() { Ok(parts) } else { Err("not complete") }
}

fn body(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        body.extend(format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n").bytes());
        body.extend_from_slice(content);
        body.extend(b"\r\n");
    }
    body.extend(b"--B--\r\n");
    body
}

proptest! {
    #[test]
    fn parts_come_out_as_they_went_in_however_the_body_is_cut(
        contents in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..200), 1..5),
        mut cuts in prop::collection::vec(0usize..1200, 0..12),
    ) {
        prop_assume!(contents.iter().all(|content| find(content, b"\r\n--B").is_none()));
        cuts.sort_unstable();
        let names: Vec<String> = (0..contents.len()).map(|n| format!("f{n}")).collect();
        let parts: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(contents.iter().map(Vec::as_slice)).collect();
        let expected: Vec<_> = parts.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect();
        prop_assert_eq!(read(&body(&parts), &cuts), Ok(expected));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'B'), any::<u8>()], 0..300)) {
        let _ = read(&bytes, &[100]);
    }
}

#[test]
fn bodies_that_are_none_are_refused_and_what_is_around_the_parts_is_ignored() {
    let check = |body: &str, expected: Result<&[(&str, &str)], &str>| {
        let got = read(body.as_bytes(), &[]);
        let got =
            got.map(|parts| parts.into_iter().map(|(n, c)| (n, String::from_utf8(c).unwrap())).collect::<Vec<_>>());
        let expected = expected.map(|e| e.iter().map(|(n, c)| ((*n).to_owned(), (*c).to_owned())).collect::<Vec<_>>());
        assert_eq!(got, expected, "{body:?}");
    };
    let head = "Content-Disposition: form-data; name=";
    check(&format!("hello\r\n--B \r\n{head}a\r\n\r\nx\r\n--B--\r\nbye"), Ok(&[("a", "x")]));
    check(&format!("--B\r\n{head}\"a\\\"b\"\r\nContent-Type: text/plain\r\n\r\n\r\n--B--"), Ok(&[("a\"b", "")]));
    check("--B--", Ok(&[]));
    check(&format!("--B\r\n{head}\"a\"\r\n\r\nx"), Err("not complete"));
    check("", Err("not complete"));
    check("--Bx\r\n\r\n", Err("something follows a delimiter on its line"));
    check("--B\r\n\r\nx\r\n--B--", Err("a part has no name in its Content-Disposition"));
    check(&format!("--B\r\n{}: x\r\n\r\n", "y".repeat(5000)), Err("a part's head is too long"));
    check(&format!("--B{}", " ".repeat(300)), Err("a delimiter's line does not end"));
    let many: String = (0..17).map(|_| format!("--B\r\n{head}a\r\n\r\n\r\n")).collect();
    check(&many, Err("the body has too many parts"));
}

#[test]
fn the_boundary_is_read_from_the_content_type() {
    let check = |text: &str, expected: Option<&str>| assert_eq!(boundary(text).as_deref(), expected, "{text}");
    check("multipart/form-data; boundary=abc", Some("abc"));
    check("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", Some("a b"));
    check("multipart/form-data", None);
    check("multipart/mixed; boundary=abc", None);
    check("multipart/form-data; boundary=", None);
    check(&format!("multipart/form-data; boundary={}", "x".repeat(71)), None);
}
