//! The executable: everything is in the library's `cli` room.

use std::process::ExitCode;

fn main() -> ExitCode {
    iot_meter::cli::main()
}
