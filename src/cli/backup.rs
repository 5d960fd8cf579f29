//! `backup`: one file with everything a server needs to go on elsewhere, made while it runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::global::Global;
use super::output;
use super::progress::{bar, show};
use crate::backup::{self, Manifest, Passphrase, Secrets, Source};
use crate::config::effective_toml;
use crate::domain::Clock;

/// Make a backup of the database, the journal, keys and settings into one file; the server may be running
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("keys").required(true),
    after_help = "\
Examples:
  iot-meter backup --passphrase-file /root/backup.pass /mnt/backup/iot-meter-2026-11-29.tar.zst
  iot-meter backup --without-secrets - | ssh other 'cat > iot-meter.tar.zst'
  iot-meter backup --passphrase-file p --with-telemetry b.tar.zst   Postgres: measurements too
  iot-meter restore --check b.tar.zst                                 is it whole?

Keys are in the file only as you ask for. Without them (or without the passphrase) a restored server makes new certificates,
and does not start where the database holds sealed secrets, unless it is given secrets.key. The raw archive is in it with
--with-archive (a bucket is copied by its own means), measurements and events of Postgres with --with-telemetry."
)]
pub(super) struct BackupArgs {
    /// The file to make, or - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Seal the keys with the passphrase in the first line of this file
    #[arg(long, value_name = "FILE", group = "keys")]
    passphrase_file: Option<PathBuf>,
    /// Put the keys in as they are: whoever has the file is the server
    #[arg(long, group = "keys")]
    secrets_in_clear: bool,
    /// Leave the keys out: certificates, the key of stored secrets, the admin key
    #[arg(long, group = "keys")]
    without_secrets: bool,
    /// Measurements and events of Postgres too (SQLite has them always)
    #[arg(long)]
    with_telemetry: bool,
    /// All but the database: it is backed up by its own means (pg_dump)
    #[arg(long, conflicts_with = "with_telemetry")]
    without_database: bool,
    /// The raw archive too, when it is a directory
    #[arg(long)]
    with_archive: bool,
}

pub(super) fn run(args: BackupArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let loaded = global.load(Vec::new())?;
    let settings = &loaded.settings;
    let secrets = match &args.passphrase_file {
        Some(path) => Secrets::Sealed(Passphrase::from_file(path)?),
        None if args.secrets_in_clear => Secrets::Clear,
        None => Secrets::LeftOut,
    };
    let source = Source {
        data_dir: &settings.data_dir,
        database_url: settings.database.url.reveal(),
        without_database: args.without_database,
        archive_url: args.with_archive.then_some(settings.archive.url.as_str()),
        settings: &effective_toml(&loaded),
        has_telemetry: args.with_telemetry,
        secrets,
        program: env!("CARGO_PKG_VERSION"),
        now: Clock::system().now(),
    };
    let to = (args.file != Path::new("-")).then_some(args.file.as_path());
    let bar = bar();
    let made = backup::make(source, to, &mut |done, all| show(&bar, done, all));
    bar.finish_and_clear();
    let made = made.with_context(|| format!("no backup of {} was made", settings.data_dir.display()))?;
    if to.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut answer = describe_json(&made.manifest);
    answer["file"] = json!(args.file);
    answer["file_bytes"] = json!(made.size_bytes);
    output::print(global.output, &answer, || {
        let size = made.size_bytes.unwrap_or(0);
        format!("made {} ({size} bytes)\n{}", args.file.display(), describe(&made.manifest))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What a backup has, for scripts.
pub(super) fn describe_json(manifest: &Manifest) -> Value {
    json!({
        "program": manifest.program,
        "begun_at": manifest.begun_at,
        "node_id": manifest.node_id,
        "dialect": manifest.dialect,
        "schema": manifest.schema.last(),
        "has_telemetry": manifest.has_telemetry,
        "has_archive": manifest.has_archive,
        "journal": manifest.journal,
        "secrets": manifest.secrets,
        "entries": manifest.entry_count(),
        "content_bytes": manifest.size_bytes(),
    })
}

/// What a backup has, for people.
pub(super) fn describe(manifest: &Manifest) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let journal = match &manifest.journal {
        Some(range) => format!("offsets {} to {} (exclusive)", range.first, range.head),
        None => "none".to_owned(),
    };
    let secrets = manifest.secrets.words();
    format!(
        "begun      {}\nprogram    iot-meter {}\ndatabase   {}, measurements: {}\njournal    {journal}\nkeys       {secrets}\n\
         archive    {}\ncontent    {} bytes in {} entries\n",
        manifest.begun_at,
        manifest.program,
        manifest.dialect.as_deref().unwrap_or("left out"),
        yes(manifest.has_telemetry),
        yes(manifest.has_archive),
        manifest.size_bytes(),
        manifest.entry_count(),
    )
}
