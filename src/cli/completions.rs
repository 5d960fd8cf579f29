//! `completions` and `man`: made from the same definitions as the command line itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;

use super::output;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iot-meter completions bash > /etc/bash_completion.d/iot-meter
  iot-meter completions zsh > ~/.zfunc/_iot-meter
  iot-meter completions fish > ~/.config/fish/completions/iot-meter.fish")]
pub(super) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages into a directory
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iot-meter man /usr/local/share/man/man1 && man iot-meter-serve")]
pub(super) struct ManArgs {
    /// Where to; made when missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(args: CompletionsArgs, mut definition: clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "iot-meter", &mut script);
    output::print_text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_man(args: ManArgs, definition: clap::Command) -> anyhow::Result<ExitCode> {
    let dir = args.dir.display();
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {dir}"))?;
    clap_mangen::generate_to(definition, &args.dir).with_context(|| format!("cannot write into {dir}"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn there_is_a_manual_page_for_every_subcommand() {
        let dir = tempfile::tempdir().expect("a directory");
        let args = ManArgs { dir: dir.path().join("man1") };
        run_man(args, super::super::Cli::command()).expect("is written");
        for page in ["iot-meter.1", "iot-meter-serve.1", "iot-meter-device-add.1"] {
            assert!(dir.path().join("man1").join(page).exists(), "{page}");
        }
    }
}
