//! The documents say what there is.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use podwright_cli::args::Args;

#[test]
fn every_command_and_option_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let text = fs::read_to_string(path).unwrap();
    let command = Args::command();
    for sub in command.get_subcommands() {
        let name = sub.get_name();
        assert!(text.contains(&format!("\n## podwright {name}")), "docs/cli.md has no section on {name}");
        for option in sub.get_arguments().filter_map(|a| a.get_long()) {
            assert!(text.contains(&format!("`--{option}")), "docs/cli.md does not name --{option} ({name})");
        }
    }
}
