//! `podwright-oci`, an OCI runtime: see `podwright-oci --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // It may have been executed from a descriptor. A name is no reason to fail.
    podwright_sys::child::set_name(c"podwright-oci").unwrap_or(());
    ExitCode::from(podwright_oci::cli::main(std::env::args_os()))
}
