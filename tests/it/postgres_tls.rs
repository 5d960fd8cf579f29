//! A real Postgres that lets in over TLS only: with whom it is spoken, and with whom not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::postgres::Server;
use crate::support::process::{Server as Process, command};
use crate::support::{Client, Connect, settled, telemetry};

/// A certificate for an address, beside its key; the server may read both.
fn certificate(server: &Server, name: &str, address: &str) -> String {
    let made = rcgen::generate_simple_self_signed([address.to_owned()]).unwrap();
    let path = |kind: &str| server.dir().join(format!("{name}.{kind}"));
    std::fs::write(path("pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = format!("--reference={}", server.dir().display());
    assert!(Command::new("chown").arg(owner).arg(path("key")).status().unwrap().success());
    path("pem").display().to_string()
}

/// A Postgres at `address` with a certificate for it; the address of a database there, without how it is reached.
fn tls_only(server: &Server, address: &str) -> String {
    certificate(server, "server", address);
    let url = server.database();
    let database = url.trim_start_matches("postgres:///").split('?').next().unwrap().to_owned();
    let files = server.dir().display();
    for statement in [
        "CREATE ROLE iot LOGIN PASSWORD 'not told to anybody'".to_owned(),
        format!("ALTER DATABASE {database} OWNER TO iot"),
        format!("ALTER SYSTEM SET listen_addresses = '{address}'"),
        format!("ALTER SYSTEM SET ssl_cert_file = '{files}/server.pem'"),
        format!("ALTER SYSTEM SET ssl_key_file = '{files}/server.key'"),
        "ALTER SYSTEM SET ssl = on".to_owned(),
    ] {
        server.query(&url, &statement);
    }
    let rules =
        "local all all trust\nhostssl all iot 127.0.0.0/8 scram-sha-256\nhostnossl all all 127.0.0.0/8 reject\n";
    std::fs::write(server.dir().join("data/pg_hba.conf"), rules).unwrap();
    server.stop();
    server.restart();
    format!("postgres://iot@{address}/{database}")
}

fn on(data: &Path, url: &str) -> Command {
    let mut command = command(data);
    command.env("IOT_METER__DATABASE__URL", url).env("PGPASSWORD", "not told to anybody");
    command
}

#[test]
fn postgres_is_spoken_to_over_tls_and_whoever_it_cannot_be_sure_of_is_named() {
    let server = Server::start();
    // An address of this process's own: the port is the usual one.
    let id = std::process::id();
    let address = format!("127.{}.{}.7", 1 + id / 256 % 254, id % 256);
    let url = tls_only(&server, &address);
    let trusted = server.dir().join("server.pem").display().to_string();
    let other = certificate(&server, "other", &address);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let verified = format!("{url}?sslmode=verify-full&sslrootcert={trusted}");
    let process = Process::start_with(&mut on(&data, &verified), &data);
    let (mut meter, _) = Client::connect(process.mqtt, &Connect::id("m1"));
    meter.publish(
        "iot/m1/telemetry",
        telemetry("m1", iot_meter::domain::Clock::system().now(), 1, 750.0).as_bytes(),
        1,
    );
    settled(&process.api);
    let unix = server.url("postgres");
    let tls = "SELECT DISTINCT ssl, version LIKE 'TLSv1._' FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'iot'";
    assert_eq!(server.query(&unix, tls), "t|t");
    assert_eq!(process.terminate(), Some(0));
    // Not by its name, not by who vouches for it, not in clear: each ends the start with the reason, and waits for nothing.
    let refused = |asked: &str, reason: &str| {
        let data = tempfile::tempdir().unwrap();
        let done = on(&data.path().join("data"), asked).stderr(std::process::Stdio::piped()).output().unwrap();
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && words.contains(reason), "{asked}: {words}");
        assert!(!words.contains("not told"), "{words}");
    };
    let renamed = url.replace(&format!("@{address}/"), "@elsewhere.example/");
    let by_name = format!("{renamed}?hostaddr={address}&sslmode=verify-full&sslrootcert={trusted}");
    refused(&by_name, "does not match host name");
    refused(&format!("{url}?sslmode=verify-full&sslrootcert={other}"), "certificate verify failed");
    refused(&format!("{url}?sslmode=disable"), "no encryption");
    // Without a word about authorities those of the system count.
    let data = dir.path().join("again");
    let mut by_system = on(&data, &format!("{url}?sslmode=verify-full"));
    by_system.env("HOME", dir.path()).env("SSL_CERT_FILE", &trusted);
    assert_eq!(Process::start_with(&mut by_system, &data).terminate(), Some(0));
}
