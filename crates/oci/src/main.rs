//! `podwright-oci`, an OCI runtime: see `podwright-oci --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(podwright_oci::cli::main(std::env::args_os()))
}
