//! The command line as text, for the documentation: made from the definitions that parse it.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::api::reference::in_a_cell;

/// A table: each command with what it does and its own options; first those that every command has.
pub(super) fn markdown(mut definition: Command) -> String {
    definition.build();
    let every: Vec<String> = options(&definition, |argument| argument.is_global_set()).collect();
    let mut text = format!("With every command: {}.\n\n| command | does | options |\n|---|---|---|\n", every.join(" "));
    add(&mut text, &definition, definition.get_name());
    text
}

/// A row for each command that does something itself, depth first.
fn add(text: &mut String, command: &Command, path: &str) {
    for child in command.get_subcommands().filter(|child| child.get_name() != "help" && !child.is_hide_set()) {
        let path = format!("{path} {}", child.get_name());
        if child.has_subcommands() {
            add(text, child, &path);
            continue;
        }
        let positionals: String = child.get_positionals().map(|argument| format!(" {argument}")).collect();
        let about = child.get_about().map(ToString::to_string).unwrap_or_default();
        let own: Vec<String> = options(child, |argument| !argument.is_global_set()).collect();
        let _ =
            writeln!(text, "| `{}` | {} | {} |", in_a_cell(&(path + &positionals)), in_a_cell(&about), own.join(" "));
    }
}

/// Options with the names of their values; without those that explain the command itself.
fn options(command: &Command, is_wanted: impl Fn(&Arg) -> bool) -> impl Iterator<Item = String> {
    command
        .get_arguments()
        .filter(move |argument| {
            let explains = matches!(argument.get_id().as_str(), "help" | "version");
            !argument.is_positional() && !argument.is_hide_set() && !explains && is_wanted(argument)
        })
        .map(|argument| format!("`{}`", in_a_cell(&argument.to_string())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_that_does_something_has_a_row_with_its_options() {
        let table = markdown(super::super::Cli::command());
        let row =
            |call: &str| table.lines().find(|line| line.starts_with(call)).unwrap_or_else(|| panic!("{call}: {table}"));
        assert!(row("| `iot-meter serve`").contains("`--demo <N>`"), "{table}");
        assert!(row("| `iot-meter device add <ID>`").contains("Register a meter"), "{table}");
        assert!(!row("| `iot-meter key list`").contains("--data-dir"), "what all have is said once: {table}");
        assert!(table.starts_with("With every command: ") && table.contains("`--data-dir <DIR>`"));
        assert!(!table.contains("| `iot-meter key`"), "a group does nothing itself: {table}");
        assert!(!table.contains("|  | "), "a command without a word about it: {table}");
    }
}
