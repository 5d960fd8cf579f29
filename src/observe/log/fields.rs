//! Every field a log line may have: those who read logs by machine can rely on these names.
//!
//! Invariant: no event uses a name that is not here (a test reads all of them), and none is here that no event uses. The
//! README's table is made from this list.

use std::fmt::Write as _;

/// Fields of every line, in their order.
pub const ALWAYS: &[(&str, &str)] = &[
    ("timestamp", "when, RFC 3339 in UTC with microseconds"),
    ("level", "`ERROR WARN INFO DEBUG TRACE`"),
    ("target", "the part of the program"),
    ("message", "what happened, in words that stay the same"),
];

/// Fields of every line that is written while a request or a traced message is worked on.
pub const WITHIN: &[(&str, &str)] = &[
    ("request_id", "the HTTP request, as in its `X-Request-Id`"),
    ("trace_id", "the trace, 32 hexadecimal digits"),
    ("span_id", "the span, 16 hexadecimal digits"),
];

/// The table of docs/reference.md.
pub fn markdown() -> String {
    let mut table = String::from("| field | is |\n|---|---|\n");
    for (name, meaning) in [ALWAYS, WITHIN, FIELDS].concat() {
        let _ = writeln!(table, "| `{name}` | {meaning} |");
    }
    table
}

/// Fields of single events.
pub const FIELDS: &[(&str, &str)] = &[
    ("address", "a listener, or another server"),
    ("alert_status", "what an alert does: `firing` or `resolved`"),
    ("allowed", "how many there may be"),
    ("attempts", "how often it was tried"),
    ("before", "what counted before"),
    ("brokers", "how many brokers a simulation uses"),
    ("bytes", "how many bytes"),
    ("bytes_before", "how many bytes it was before"),
    ("checkpoint", "journal offset up to which everything is stored"),
    ("client_id", "the MQTT client"),
    ("cmd", "the command's name"),
    ("cmd_id", "the command"),
    ("count", "how many"),
    ("data_dir", "the data directory"),
    ("device_id", "the device"),
    ("devices", "how many devices"),
    ("duty", "what one node does at a time, for all of them"),
    ("elapsed_s", "seconds since the start of a simulation"),
    ("endpoint", "where spans are sent"),
    ("entries", "how many entries of the audit log"),
    ("error", "what went wrong, with its causes"),
    ("expiring", "certificates that end soon"),
    ("files", "how many files"),
    ("fingerprint", "an alert, as Alertmanager names it"),
    ("first", "oldest journal offset"),
    ("folder", "a folder of the archive"),
    ("full", "the limit that was reached"),
    ("head", "end of the journal's offsets"),
    ("http", "address of the API"),
    ("https", "address of the API in TLS"),
    ("is_new", "whether there was something new"),
    ("is_signed", "whether the command is signed"),
    ("issue", "number of the issue at GitHub"),
    ("key", "name of a setting, an object or a key"),
    ("method", "HTTP method"),
    ("mqtt", "address of the broker"),
    ("mqtts", "address of the broker in TLS"),
    ("ms", "how long it took, in milliseconds"),
    ("name", "what it is called"),
    ("names", "what it is called, all names"),
    ("objects", "how many objects of the archive"),
    ("of", "whose it is"),
    ("offset", "journal offset"),
    ("open", "whether nobody is asked for credentials"),
    ("operation", "what was being done"),
    ("over", "how many were too many"),
    ("partition", "a partition of the telemetry table"),
    ("path", "path of a request, or of a file"),
    ("pause", "time until the next try"),
    ("peer", "address of the other side"),
    ("purpose", "what a secret is for"),
    ("reason", "why"),
    ("records", "how many journal records"),
    ("refusal", "why it was refused"),
    ("repository", "repository at GitHub"),
    ("result", "what came of it"),
    ("role", "what a key may do"),
    ("rollout", "the rollout"),
    ("rows", "how many rows"),
    ("serial", "a certificate's serial number"),
    ("set_by", "where a setting comes from"),
    ("source", "number of an external broker"),
    ("spans", "how many spans"),
    ("speed", "how many times faster than time a simulation is"),
    ("stage", "stage of a rollout, from 1"),
    ("state", "what it is now"),
    ("status", "HTTP status"),
    ("title", "title of an issue"),
    ("topic", "MQTT topic"),
    ("unreadable", "how many could not be read"),
    ("until", "time of an end"),
    ("value", "value of a setting"),
    ("wanted", "how many are needed"),
    ("ws", "address of the broker over WebSocket"),
    ("wss", "address of the broker over WebSocket in TLS"),
];
