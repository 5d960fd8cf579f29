//! `restore`: a backup into an empty data directory and an empty database.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::backup::{describe, describe_json};
use super::global::Global;
use super::output;
use super::progress::{bar, show};
use crate::backup::{self, Passphrase, Target};
use crate::config::Flag;

/// Restore a backup into an empty data directory and an empty database
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter restore --check b.tar.zst
  iot-meter restore --data-dir /var/lib/iot-meter --passphrase-file /root/backup.pass b.tar.zst
  iot-meter restore --data-dir /var/lib/iot-meter --without-secrets \\
      --database-url postgres://iot@db/iot b.tar.zst
  iot-meter restore --data-dir /var/lib/iot-meter --without-database b.tar.zst   after pg_restore

The file is checked as a whole before anything of it is written. Do not let the original and the restored server run at the
same time: they are one and the same node.")]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only check that the file is whole, and say what is in it
    #[arg(long)]
    check: bool,
    /// The empty database [default: of the settings]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Opens sealed keys: the file whose first line is the passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "without_secrets")]
    passphrase_file: Option<PathBuf>,
    /// Leave the keys out
    #[arg(long)]
    without_secrets: bool,
    /// Leave the database alone: it was restored by its own means
    #[arg(long, conflicts_with = "database_url")]
    without_database: bool,
}

pub(super) fn run(args: RestoreArgs, global: &Global) -> anyhow::Result<ExitCode> {
    global.log_quietly()?;
    let bar = bar();
    let mut on_progress = |done, all| show(&bar, done, all);
    if args.check {
        let checked = backup::check(&args.file, &mut on_progress);
        bar.finish_and_clear();
        let manifest = checked?;
        let answer = describe_json(&manifest);
        output::print(global.output, &answer, || format!("{} is whole\n{}", args.file.display(), describe(&manifest)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let flag = args.database_url.iter().map(|url| Flag {
        flag: "--database-url".to_owned(),
        key: "database.url".to_owned(),
        value: url.clone(),
    });
    let settings = global.load(flag.collect())?.settings;
    let target = Target {
        data_dir: &settings.data_dir,
        database_url: (!args.without_database).then_some(settings.database.url.reveal()),
        passphrase: args.passphrase_file.as_deref().map(Passphrase::from_file).transpose()?,
        without_secrets: args.without_secrets,
    };
    let restored = backup::restore(&args.file, target, &mut on_progress);
    bar.finish_and_clear();
    let restored = restored?;
    let mut answer = describe_json(&restored.manifest);
    answer["data_dir"] = json!(settings.data_dir);
    answer["settings_file"] = json!(restored.settings_file);
    answer["tables_left_out"] = json!(restored.tables_left_out);
    output::print(global.output, &answer, || {
        let mut text = format!("restored into {}\n{}", settings.data_dir.display(), describe(&restored.manifest));
        for table in &restored.tables_left_out {
            text.push_str(&format!("left out   the table {table}, which is none of iot-meter's\n"));
        }
        let settings = restored.settings_file.display();
        text.push_str(&format!("The settings it ran with are in {settings}: take over what still holds.\n"));
        text
    })?;
    Ok(ExitCode::SUCCESS)
}
