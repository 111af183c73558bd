//! Configuration: a file, overlaid by flags, resolved once into [`Config`].
//!
//! Every field is both a key of the file and a flag; [`settings`] names them, [`mod@file`] reads the file. Fields that can
//! change while the agent runs are in [`Live`]; SIGHUP reads everything again and [`fixed_differences`] tells what of the
//! rest differs.

mod file;
mod resolved;
mod settings;
mod values;

use std::path::Path;

use podwright_sys::own::{Links, read_text};

pub use file::Problem;
pub use resolved::{Config, Fixed, Live, LogFormat, OWN_RUNTIME};
pub use settings::Settings;

/// Where the configuration is looked for unless `--config` says otherwise; it may be absent there.
pub const DEFAULT_FILE: &str = "/etc/podwright/config.yaml";

/// Most bytes of a configuration file.
const MAX_CONFIG: u64 = 1 << 20;

/// Reads the file (if any) and lays `flags` over it.
///
/// # Errors
/// Every problem found, not only the first.
pub fn load(flags: &Settings, explicit_file: Option<&Path>) -> Result<Config, Vec<Problem>> {
    let path = explicit_file.unwrap_or(Path::new(DEFAULT_FILE));
    // An administrator may well keep it elsewhere; but it has an end.
    let text = match read_text(path, MAX_CONFIG, Links::Follow) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && explicit_file.is_none() => String::new(),
        Err(error) => return Err(vec![Problem::of_file(path, format!("cannot be read: {error}"))]),
    };
    let file = file::parse(path, &text);
    let settings = file.settings.clone().overlaid_by(flags);
    let unusable = file.check(path, &settings);
    let problems: Vec<Problem> = file.problems.into_iter().chain(unusable).collect();
    if problems.is_empty() { Ok(settings.resolve()) } else { Err(problems) }
}

/// Names of the settings that differ and cannot change while the agent runs.
pub fn fixed_differences(now: &Fixed, wanted: &Fixed) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut compare = |name, same: bool| {
        if !same {
            names.push(name);
        }
    };
    compare("manifestDir", now.manifest_dir == wanted.manifest_dir);
    compare("stateDir", now.state_dir == wanted.state_dir);
    compare("runDir", now.run_dir == wanted.run_dir);
    compare("logDir", now.log_dir == wanted.log_dir);
    compare("bundleDir", now.bundle_dir == wanted.bundle_dir);
    compare("cgroupRoot", now.cgroup_root == wanted.cgroup_root);
    compare("bootIdFile", now.boot_id_file == wanted.boot_id_file);
    compare("nodeName", now.node_name == wanted.node_name);
    compare("logFormat", now.log_format == wanted.log_format);
    compare("allowMissingControllers", now.allow_missing_controllers == wanted.allow_missing_controllers);
    compare("shim", now.shim == wanted.shim);
    compare("runtimes", now.runtimes == wanted.runtimes);
    compare("defaultRuntime", now.default_runtime == wanted.default_runtime);
    names
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn problems(text: &str) -> Vec<String> {
        let (_dir, path) = write(text);
        let found = load(&Settings::default(), Some(&path)).unwrap_err();
        found.iter().map(|p| p.to_string().replace(path.to_str().unwrap(), "config.yaml")).collect()
    }

    #[test]
    fn the_file_is_overlaid_by_flags() {
        let (_dir, path) = write(
            "stateDir: /s\nfileCheckFrequency: 5\ncrashLoopBackOff: {initial: 1s, max: 1m}\n\
             runtimes:\n  crun: /usr/bin/crun\ndefaultRuntime: crun\ncontainerLogMaxSize: 10Mi\nretention: {age: 1d, pods: 3}\n",
        );
        let flags = Settings { file_check_frequency: Some(Duration::from_secs(2)), ..Settings::default() };
        let config = load(&flags, Some(&path)).unwrap();
        assert_eq!(config.fixed.state_dir, Path::new("/s"));
        assert_eq!(config.fixed.bundle_dir, Path::new("/s/bundles"));
        assert_eq!(config.live.file_check_frequency, Duration::from_secs(2));
        assert_eq!(config.live.back_off_max, Duration::from_secs(60));
        assert_eq!(config.fixed.runtimes["crun"], Path::new("/usr/bin/crun"));
        assert!(config.fixed.runtimes.contains_key(OWN_RUNTIME));
        assert_eq!(config.live.container_log_max_size, 10 << 20);
        assert_eq!((config.live.retention_age, config.live.retention_pods), (Duration::from_secs(86_400), 3));
    }

    #[test]
    fn every_problem_is_told_with_its_line_and_what_is_accepted() {
        let found = problems(
            "stateDir: /s\nstatedir: /t\nfileCheckFrequency: soon\ncrashLoopBackOff:\n  inital: 3\nrunDir: [a]\n",
        );
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(
            found[0].starts_with("config.yaml:2: statedir: unknown key") && found[0].contains("stateDir"),
            "{found:#?}"
        );
        assert!(found[1].starts_with("config.yaml:3: fileCheckFrequency: \"soon\" is not a duration"), "{found:#?}");
        assert!(found[2].starts_with("config.yaml:5: crashLoopBackOff.inital: unknown key"), "{found:#?}");
        assert!(found[3].starts_with("config.yaml:6: runDir:"), "{found:#?}");
    }

    #[test]
    fn values_that_cannot_be_used_are_told_of_where_they_came_from() {
        let found = problems("stateDir: relative\nshim: rel\nnodeName: a b\nruntimes: {crun: crun}\n");
        let accepted = "found, an absolute path accepted";
        assert_eq!(
            found,
            [
                format!("config.yaml:1: stateDir: \"relative\" {accepted}"),
                format!("config.yaml:2: shim: \"rel\" {accepted}"),
                format!("config.yaml:4: runtimes.crun: \"crun\" {accepted}"),
                "config.yaml:3: nodeName: \"a b\" found; accepted: at most 253 lower case letters, digits, '-' and '.'"
                    .to_owned(),
            ]
        );
        let (_dir, path) = write("retention: {pods: 3}\n");
        let flags = Settings { log_dir: Some("rel".into()), ..Settings::default() };
        let found: Vec<String> = load(&flags, Some(&path)).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("--log-dir: \"rel\" {accepted}")]);
    }

    #[test]
    fn values_of_the_wrong_shape() {
        for (text, said) in [
            ("stateDir:\n", "config.yaml:1: stateDir: no value found"),
            ("logLevel: ~\n", "config.yaml:1: logLevel: no value found"),
            ("runtimes: [a]\n", "config.yaml:1: runtimes: a list found, a mapping of NAME: PATH accepted"),
            ("retention: [a]\n", "config.yaml:1: retention: a list found, a mapping accepted with: age, pods"),
            ("logDir: [a]\n", "config.yaml:1: logDir: a list found, a scalar accepted"),
            ("logdir: [a]\n", "config.yaml:1: logdir: unknown key; accepted here: allowMissing"),
            ("- a\n", "config.yaml:1: a list found, a mapping of settings accepted"),
            ("retention: 5\n", "config.yaml:1: retention: a scalar found, a mapping accepted with: age, pods"),
        ] {
            let found = problems(text);
            assert!(found.len() == 1 && found[0].starts_with(said), "{text:?}: {found:#?}");
        }
    }

    #[test]
    fn what_cannot_work_together_is_refused() {
        assert!(problems("stateDir: relative\n")[0].contains("absolute"));
        assert!(problems("defaultRuntime: runsc\n")[0].contains("runsc"));
        assert!(problems("stateDir: /a\nrunDir: /a\n")[0].contains("runDir: the same"));
        assert!(problems("stateDir: /a\nstateDir: /b\n")[0].contains("config.yaml:2"));
        assert!(problems("a: [unclosed\n")[0].starts_with("config.yaml:"));
    }

    #[test]
    fn a_longest_delay_below_the_first_is_no_problem() {
        let (_dir, path) = write("crashLoopBackOff: {max: 5s}\n");
        let live = load(&Settings::default(), Some(&path)).unwrap().live;
        assert_eq!((live.back_off_initial, live.back_off_max), (Duration::from_secs(10), Duration::from_secs(5)));
    }

    #[test]
    fn a_missing_file_is_an_error_only_if_it_was_named() {
        assert!(load(&Settings::default(), Some(Path::new("/proc/no/such/config.yaml"))).is_err());
    }

    #[test]
    fn what_differs_and_cannot_change_is_named() {
        let a = Settings::default().resolve().fixed;
        let b = Fixed { run_dir: "/elsewhere".into(), ..a.clone() };
        assert_eq!(fixed_differences(&a, &b), ["runDir"]);
        assert_eq!(fixed_differences(&a, &a), [""; 0]);
    }
}
