//! The command line `podwright`.

fn main() -> std::process::ExitCode {
    podwright_cli::run()
}
