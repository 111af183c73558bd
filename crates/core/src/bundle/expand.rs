//! `$(VAR)` in commands, arguments and variables, as the kubelet expands it.

use std::collections::BTreeMap;

use crate::pod::spec::EnvVar;

/// Replaces `$(NAME)` by its value. `$$` is `$`; what is not known, or not closed, stays as it is.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = &from[1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match values.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The variables in order, each expanded with those before it.
pub(super) fn variables(env: &[EnvVar]) -> (Vec<EnvVar>, BTreeMap<String, String>) {
    let mut values = BTreeMap::new();
    let mut expanded = Vec::with_capacity(env.len());
    for EnvVar { name, value } in env {
        let value = expand(value, &values);
        values.insert(name.clone(), value.clone());
        expanded.push(EnvVar { name: name.clone(), value });
    }
    (expanded, values)
}

/// A command with the container's variables: what an exec probe runs.
pub fn expand_command(command: &[String], env: &[EnvVar]) -> Vec<String> {
    let (_, values) = variables(env);
    command.iter().map(|word| expand(word, &values)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The kubelet's own table (third_party/forked/golang/expansion), with one value for each name.
    #[test]
    fn as_the_kubelet_does() {
        let values: BTreeMap<String, String> =
            [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
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
            assert_eq!(expand(input, &values), expected, "{input}");
        }
    }

    #[test]
    fn a_variable_sees_those_before_it() {
        let env = [("A", "1"), ("B", "$(A)$(C)"), ("C", "3"), ("A", "$(A)x"), ("D", "$(A)")]
            .map(|(name, value)| EnvVar { name: name.to_owned(), value: value.to_owned() });
        let (expanded, _) = variables(&env);
        assert_eq!(expanded.iter().map(|v| v.value.as_str()).collect::<Vec<_>>(), ["1", "1$(C)", "3", "1x", "1x"]);
        assert_eq!(expand_command(&["$(D)-$(C)".to_owned()], &env), ["1x-3"]);
    }

    proptest! {
        #[test]
        fn text_without_dollar_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, &BTreeMap::new()), text);
        }

        #[test]
        fn never_panics(text in "[$()a-cä]*") {
            let values = [("a".to_owned(), "$(b)".to_owned())].into();
            let _expanded = expand(&text, &values);
        }
    }
}
