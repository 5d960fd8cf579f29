//! `device import`: a table of meters, judged by the server row by row.
//!
//! Invariant: the rules are the server's; here is only read how the file is written.

use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::cli::client::{Client, ClientError};
use crate::cli::global::Global;
use crate::cli::{output, progress};

/// Largest file read: the most the server can be set to.
const MAX_BYTES: u64 = 256 << 20;
const PATH: &str = "/api/devices/import";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter device import meters.csv              columns device_id, device_name, location, metadata.car, …
  iot-meter device import meters.jsonl --atomic   one JSON object a line; all of them or none")]
pub(super) struct ImportArgs {
    /// The file; `-` reads stdin
    file: PathBuf,
    /// How it is written [default: CSV when the name ends in .csv, else told by its first character]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// All rows or none: where one is refused, nothing is registered
    #[arg(long)]
    atomic: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// A header row names the columns: device_id, device_name, device_type, location, status, metadata.KEY
    Csv,
    /// One JSON object a line, as POST /api/devices takes it
    Jsonl,
}

impl Format {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Jsonl => "application/x-ndjson",
        }
    }

    /// By the name, else by what the text begins with, behind a byte order mark: an object, or names of columns.
    fn guess(file: &std::path::Path, bytes: &[u8]) -> Self {
        let is_csv = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv"));
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        if is_csv || first.is_some_and(|first| *first != b'{') { Self::Csv } else { Self::Jsonl }
    }
}

/// What the server says of the table.
#[derive(Debug, Deserialize)]
struct Imported {
    registered: usize,
    known: usize,
    refused: usize,
    rows: Vec<Verdict>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    line: u64,
    #[serde(default)]
    device_id: String,
    status: u16,
    #[serde(default)]
    token: String,
    #[serde(default)]
    error: String,
}

/// Sends the file; a refused row is told and counted, the rest goes on.
pub(super) fn run(client: &Client, args: &ImportArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let bytes = read(args)?;
    let format = args.format.unwrap_or_else(|| Format::guess(&args.file, &bytes));
    let query: &[_] = if args.atomic { &[("atomic", "true")] } else { &[] };
    let bar = progress::bar();
    let size = bytes.len() as u64;
    bar.set_length(size);
    let sent = client.post_bytes(PATH, query, format.content_type(), size, bar.wrap_read(Cursor::new(bytes)));
    bar.finish_and_clear();
    let answer = match sent {
        Err(ClientError::Refused { status: 413, detail }) => anyhow::bail!(
            "{} is too large for the server ({detail}): send it in parts, or raise http.import_limit_bytes there",
            args.file.display()
        ),
        sent => sent?.body,
    };
    let imported: Imported = client.decode(PATH, answer.clone())?;
    output::print(global.output, &answer, || shown(&imported))?;
    Ok(if imported.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(args: &ImportArgs) -> anyhow::Result<Vec<u8>> {
    let place = || format!("cannot read {}", args.file.display());
    let input: Box<dyn Read> = match args.file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(&args.file).with_context(place)?),
    };
    let mut bytes = Vec::new();
    input.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(place)?;
    let is_small = bytes.len() as u64 <= MAX_BYTES;
    anyhow::ensure!(is_small, "{} is larger than {MAX_BYTES} bytes: import it in parts", args.file.display());
    Ok(bytes)
}

fn shown(imported: &Imported) -> String {
    let state = |status: u16| match status {
        201 => "registered",
        200 => "known",
        _ => "refused",
    };
    let row = |v: &Verdict| {
        vec![v.line.to_string(), v.device_id.clone(), state(v.status).to_owned(), v.token.clone(), v.error.clone()]
    };
    let rows: Vec<_> = imported.rows.iter().map(row).collect();
    let table = output::table(&["LINE", "ID", "STATE", "TOKEN", "ERROR"], &rows);
    let Imported { registered, known, refused, .. } = imported;
    format!("{table}{registered} registered, {known} known already, {refused} refused\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::tests::{answer, serve_once};

    #[test]
    fn how_a_file_is_written_is_seen_by_its_name_or_its_beginning() {
        let check = |name: &str, text: &str, expected: Format| {
            assert_eq!(Format::guess(std::path::Path::new(name), text.as_bytes()), expected, "{name} {text}");
        };
        check("a.CSV", "{", Format::Csv);
        check("-", "\n {\"device_id\":1}", Format::Jsonl);
        check("-", "device_id,device_name", Format::Csv);
        check("a.jsonl", "", Format::Jsonl);
        check("-", "\u{feff}{\"device_id\":1}", Format::Jsonl);
        check("-", "\u{feff}device_id,device_name", Format::Csv);
    }

    #[test]
    fn the_table_is_sent_as_it_is_and_the_verdicts_are_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a.csv");
        std::fs::write(&file, "device_id,device_name\nm1,One\n").expect("is written");
        let body = r#"{"registered":1,"known":0,"refused":1,"rows":[{"row":1,"line":2,"device_id":"m1","status":201,
            "token":"t1"},{"row":2,"line":3,"status":422,"error":"row is no CSV"}]}"#;
        let (url, server) = serve_once(vec![answer("207 Multi-Status", "", body)]);
        let client = Client::new(&url, None, None).expect("a good address");
        let bytes = std::fs::read(&file).expect("is there");
        let size = bytes.len() as u64;
        let sent = client.post_bytes(PATH, &[("atomic", "true")], "text/csv", size, Cursor::new(bytes));
        let imported: Imported = client.decode(PATH, sent.expect("is answered").body).expect("verdicts");
        let text = shown(&imported);
        assert!(text.contains("2     m1  registered  t1") && text.contains("row is no CSV"), "{text}");
        assert!(text.ends_with("1 registered, 0 known already, 1 refused\n"), "{text}");
        let requests = server.join().expect("served");
        assert!(requests[0].starts_with("POST /api/devices/import?atomic=true "), "{}", requests[0]);
        assert!(requests[0].ends_with("device_id,device_name\nm1,One\n"), "{}", requests[0]);
    }
}
