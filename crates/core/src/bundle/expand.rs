//! `$(VAR)` in commands, arguments and variables, as the kubelet expands it, and no further than execve(2) takes the result:
//! variables that refer to each other tenfold would make gigabytes of a few lines.

use std::collections::BTreeMap;

use crate::pod::spec::{Container, EnvVar, Hook, Probe, ProbeAction};

/// Longest argument or `NAME=VALUE`, bytes: the kernel's MAX_ARG_STRLEN, without the NUL at its end.
pub const LONGEST_ARGUMENT: usize = (128 << 10) - 1;
/// All arguments and variables with their NULs and pointers, bytes: what execve takes with the usual stack of 8 MiB.
pub const MOST_ARGUMENTS: usize = 2 << 20;

/// What execve cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {wrong}")]
pub struct TooLong {
    /// Which of the container's fields, as in `args[2]`; empty: all of them together.
    pub field: String,
    /// What about it.
    pub wrong: Wrong,
}

/// See [`TooLong`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// One of them is too long.
    #[error(
        "argument list too long: more than {LONGEST_ARGUMENT} bytes once its variables are in their places, accepted: at most {LONGEST_ARGUMENT}"
    )]
    Argument,
    /// They are too long together.
    #[error(
        "argument list too long: arguments and variables together are more than {MOST_ARGUMENTS} bytes, accepted: at most {MOST_ARGUMENTS}"
    )]
    All,
    /// The end of a string for the kernel.
    #[error("found a NUL character, accepted: text without it")]
    Nul,
}

/// What there is room for still.
#[derive(Debug, Clone, Copy)]
struct Room(usize);

impl Room {
    fn new() -> Room {
        Room(MOST_ARGUMENTS)
    }

    /// Takes a string in; `name` is that of a variable.
    fn take(&mut self, name: Option<&str>, text: &str) -> Result<(), Wrong> {
        let length = text.len() + name.map_or(0, |name| name.len() + 1);
        if length > LONGEST_ARGUMENT {
            return Err(Wrong::Argument);
        }
        if text.contains('\0') {
            return Err(Wrong::Nul);
        }
        // With its NUL and its pointer.
        self.0 = self.0.checked_sub(length + 1 + size_of::<u64>()).ok_or(Wrong::All)?;
        Ok(())
    }
}

/// What a container is started with, as far as its manifest says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) env: Vec<EnvVar>,
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
}

/// Replaces `$(NAME)` by its value. `$$` is `$`; what is not known, or not closed, stays as it is.
fn expand(text: &str, values: &BTreeMap<&str, &str>) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len().min(LONGEST_ARGUMENT));
    let mut rest = text;
    let mut push = |parts: &[&str]| {
        out.extend(parts.iter().copied());
        if out.len() > LONGEST_ARGUMENT { Err(Wrong::Argument) } else { Ok(()) }
    };
    // Behind the last one nothing is closed any more: it is not looked for again and again.
    let last_close = text.rfind(')').map_or(0, |at| text.len() - at);
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        push(&[before])?;
        let after = from.strip_prefix('$').unwrap_or(from);
        let closed = after.len() >= last_close && last_close > 0;
        if let Some(tail) = after.strip_prefix('$') {
            push(&["$"])?;
            rest = tail;
        } else if let Some((name, tail)) =
            after.strip_prefix('(').filter(|_| closed).and_then(|inner| inner.split_once(')'))
        {
            match values.get(name) {
                Some(value) => push(&[value])?,
                None => push(&["$(", name, ")"])?,
            }
            rest = tail;
        } else {
            push(&["$"])?;
            rest = after;
        }
    }
    push(&[rest])?;
    Ok(out)
}

fn words(
    field: &str,
    words: &[String],
    values: &BTreeMap<&str, &str>,
    room: &mut Room,
) -> Result<Vec<String>, TooLong> {
    let word = |(index, word): (usize, &String)| {
        let word = expand(word, values).and_then(|word| room.take(None, &word).map(|()| word));
        word.map_err(|wrong| TooLong { field: format!("{field}[{index}]"), wrong })
    };
    words.iter().enumerate().map(word).collect()
}

/// The variables in order, each expanded with those before it, and command and arguments with them all.
pub(super) fn container(container: &Container) -> Result<Expanded, TooLong> {
    let mut room = Room::new();
    let mut env: Vec<EnvVar> = Vec::with_capacity(container.env.len());
    // By place: a value is kept once.
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, EnvVar { name, value }) in container.env.iter().enumerate() {
        let value = if value.contains("$(") {
            let values = places.iter().filter_map(|(name, at)| Some((*name, env.get(*at)?.value.as_str()))).collect();
            expand(value, &values)
        } else {
            expand(value, &BTreeMap::new())
        };
        let value = value.and_then(|value| room.take(Some(name), &value).map(|()| value));
        let value = value.map_err(|wrong| TooLong { field: format!("env[{index}].value"), wrong })?;
        places.insert(name, index);
        env.push(EnvVar { name: name.clone(), value });
    }
    let values = places.iter().filter_map(|(name, at)| Some((*name, env.get(*at)?.value.as_str()))).collect();
    let command = words("command", &container.command, &values, &mut room)?;
    let args = words("args", &container.args, &values, &mut room)?;
    Ok(Expanded { env, command, args })
}

/// The command of an exec probe. As the kubelet does it (`ExpandContainerCommandOnlyStatic`): with the variables as they are
/// written. The command of a hook is not expanded at all.
///
/// # Errors
/// [`TooLong`], with its field in the command.
pub fn probe_command(command: &[String], env: &[EnvVar]) -> Result<Vec<String>, TooLong> {
    let values = env.iter().map(|variable| (variable.name.as_str(), variable.value.as_str())).collect();
    words("command", command, &values, &mut Room::new())
}

/// Whether what a runtime is told to execute can be executed.
pub(super) fn check(args: &[String], env: &[String]) -> Result<(), TooLong> {
    let mut room = Room::new();
    for (field, strings) in [("args", args), ("env", env)] {
        for string in strings {
            let wrong = |wrong| TooLong { field: format!("process.{field} with those of the image"), wrong };
            room.take(None, string).map_err(wrong)?;
        }
    }
    Ok(())
}

/// Whether everything that is ever executed in the container can be: itself, its probes and its hooks. What its image adds
/// is not known here.
///
/// # Errors
/// [`TooLong`], with the field of the container.
pub fn check_container(of: &Container) -> Result<(), TooLong> {
    container(of)?;
    let probes = [
        ("startupProbe", &of.startup_probe),
        ("readinessProbe", &of.readiness_probe),
        ("livenessProbe", &of.liveness_probe),
    ];
    for (name, probe) in probes {
        if let Some(Probe { action: ProbeAction::Exec { command }, .. }) = probe {
            probe_command(command, &of.env).map_err(|error| error.below(&format!("{name}.exec")))?;
        }
    }
    for (name, hook) in [("postStart", &of.lifecycle.post_start), ("preStop", &of.lifecycle.pre_stop)] {
        if let Some(Hook::Exec { command }) = hook {
            let mut room = Room::new();
            for (index, word) in command.iter().enumerate() {
                let field = format!("lifecycle.{name}.exec.command[{index}]");
                room.take(None, word).map_err(|wrong| TooLong { field, wrong })?;
            }
        }
    }
    Ok(())
}

impl TooLong {
    fn below(self, path: &str) -> TooLong {
        TooLong { field: format!("{path}.{}", self.field), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The kubelet's own table (third_party/forked/golang/expansion), with one value for each name.
    #[test]
    fn as_the_kubelet_does() {
        let values: BTreeMap<&str, &str> =
            [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")].into();
        for (input, expected) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("$(VAR_A)_$(VAR_A)", "A_A"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("%$(VAR_REF)%", "%$(VAR_A)%"),
            ("f-$(VAR_A)-$(VAR_EMPTY)-", "f-A--"),
            ("$$(VAR_A)", "$(VAR_A)"),
            ("$$(DOESNT_EXIST)", "$(DOESNT_EXIST)"),
            ("$$$(VAR_A)", "$A"),
            ("$$$$(VAR_A)", "$$(VAR_A)"),
            ("$(VAR_A", "$(VAR_A"),
            ("foo$", "foo$"),
            ("foo$$", "foo$"),
            ("$VAR_A", "$VAR_A"),
            ("$()", "$()"),
            ("$(NOPE)", "$(NOPE)"),
            ("$($(VAR_A))", "$($(VAR_A))"),
            ("$(VAR_A))", "A)"),
            ("ä$(VAR_A)ö$", "äAö$"),
            ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ] {
            assert_eq!(expand(input, &values).as_deref(), Ok(expected), "{input}");
        }
    }

    fn variables(env: &[(&str, String)]) -> Vec<EnvVar> {
        env.iter().map(|(name, value)| EnvVar { name: (*name).to_owned(), value: value.clone() }).collect()
    }

    fn with(env: &[(&str, String)], args: &[&str]) -> Container {
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}";
        let mut pod = crate::manifest::parse(text, crate::manifest::Format::Yaml).unwrap().remove(0).spec;
        let mut container = pod.containers.remove(0);
        container.env = variables(env);
        container.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        container
    }

    #[test]
    fn a_variable_sees_those_before_it() {
        let env = [("A", "1"), ("B", "$(A)$(C)"), ("C", "3"), ("A", "$(A)x"), ("D", "$(A)")]
            .map(|(name, value)| (name, value.to_owned()));
        let expanded = container(&with(&env, &["$(D)-$(C)"])).unwrap();
        assert_eq!(expanded.env.iter().map(|v| v.value.as_str()).collect::<Vec<_>>(), ["1", "1$(C)", "3", "1x", "1x"]);
        assert_eq!(expanded.args, ["1x-3"]);
        // A probe's command sees them as they are written; kubernetes/pkg/kubelet/container/helpers.go.
        let probe = probe_command(&["$(D)-$(C)".to_owned(), "$$(C)".to_owned()], &variables(&env));
        assert_eq!(probe.unwrap(), ["$(A)-3", "$(C)"]);
    }

    /// Each variable is ten times the one before it: with 20 of them 10 TB.
    #[test]
    fn a_bomb_goes_off_neither_in_variables_nor_in_arguments() {
        let bomb = |depth: usize| -> Vec<(String, String)> {
            (0..depth)
                .map(|n| (format!("V{n}"), if n == 0 { "x".repeat(10) } else { format!("$(V{})", n - 1).repeat(10) }))
                .collect()
        };
        let of = |depth: usize, args: &[&str]| {
            let env = bomb(depth);
            let env: Vec<(&str, String)> = env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            check_container(&with(&env, args)).map_err(|error| (error.field, error.wrong))
        };
        assert_eq!(of(4, &["$(V3)"]), Ok(()));
        assert_eq!(of(20, &[]), Err(("env[5].value".to_owned(), Wrong::Argument)));
        assert_eq!(of(5, &["ok", &"$(V4)".repeat(2)]), Err(("args[1]".to_owned(), Wrong::Argument)));
        // Each of them fits, together they do not.
        let many = vec!["$(V4)"; 1000];
        assert_eq!(of(5, &many), Err(("args[19]".to_owned(), Wrong::All)));
        let mut hooked = with(&[("V", "x".repeat(1000))], &[]);
        hooked.lifecycle.pre_stop = Some(Hook::Exec { command: vec!["y".repeat(LONGEST_ARGUMENT + 1)] });
        assert_eq!(check_container(&hooked).unwrap_err().field, "lifecycle.preStop.exec.command[0]");
        hooked.lifecycle.pre_stop = Some(Hook::Exec { command: vec!["$(V)".repeat(LONGEST_ARGUMENT / 4)] });
        assert_eq!(check_container(&hooked), Ok(()));
    }

    #[test]
    fn the_limits_are_those_of_execve() {
        let fits = |name: &'static str, bytes: usize| container(&with(&[(name, "x".repeat(bytes))], &[])).is_ok();
        assert!(fits("NAME", LONGEST_ARGUMENT - 5) && !fits("NAME", LONGEST_ARGUMENT - 4));
        let strings = |count: usize| vec!["x".repeat(1000); count];
        let most = MOST_ARGUMENTS / 1009;
        assert!(check(&strings(most), &[]).is_ok() && check(&strings(most), &strings(1)).is_err());
        assert_eq!(check(&["a\0b".to_owned()], &[]).unwrap_err().wrong, Wrong::Nul);
    }

    /// What would be looked through to its end at each of its characters takes no longer than anything else.
    #[test]
    #[expect(clippy::disallowed_types, reason = "what it says is about time")]
    fn time_grows_with_the_text_only() {
        let begun = std::time::Instant::now();
        let unclosed = "$(".repeat(5 << 20);
        assert_eq!(expand(&unclosed, &BTreeMap::new()), Err(Wrong::Argument));
        let closed_early = format!("$(a){}", "$(".repeat(60_000));
        assert_eq!(expand(&closed_early, &BTreeMap::new()).as_deref(), Ok(closed_early.as_str()));
        let dollars = "$$".repeat(LONGEST_ARGUMENT);
        assert_eq!(expand(&dollars, &BTreeMap::new()).map(|text| text.len()), Ok(LONGEST_ARGUMENT));
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    proptest! {
        #[test]
        fn text_without_dollar_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, &BTreeMap::new()), Ok(text));
        }

        #[test]
        fn never_panics(text in "[$()a-cä]*") {
            let values = [("a", "$(b)")].into();
            let _expanded = expand(&text, &values);
        }
    }
}
