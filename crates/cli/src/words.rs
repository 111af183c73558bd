//! What the words of a command name: kinds, names, containers.

use crate::kind::Kind;

/// The words of `get`: a kind and names, or `kind/name` each, all of one kind.
///
/// # Errors
/// A text for the user.
pub fn get_words(words: &[String]) -> Result<(Kind, Vec<String>), String> {
    let accepted = "accepted: pods, jobs, cronjobs [NAME...], KIND/NAME..., events, files";
    let first = words.first().map(String::as_str).unwrap_or_default();
    let word = first.split('/').next().unwrap_or_default();
    let kind = Kind::of_word(word).ok_or_else(|| format!("cannot get \"{first}\"; {accepted}"))?;
    if !kind.has_names() && (words.len() != 1 || first.contains('/')) {
        return Err(format!("\"{first}\" takes no names; {accepted}"));
    }
    let names = if first.contains('/') { words } else { &words[1..] };
    Ok((
        kind,
        names.iter().map(|name| name_of(name, kind, &[kind])).map(|n| n.map(|(_, n)| n)).collect::<Result<_, _>>()?,
    ))
}

/// The words of a command about objects of these kinds, the first of which is meant by a bare name: `NAME...`, `KIND NAME...`,
/// or `KIND/NAME...`.
///
/// # Errors
/// A text for the user.
pub fn object_words(words: &[String], kinds: &[Kind]) -> Result<Vec<(Kind, String)>, String> {
    let bare = kinds.first().copied().unwrap_or(Kind::Pods);
    let (default, names) = match words {
        [first, rest @ ..] if !rest.is_empty() => match Kind::of_word(first).filter(|kind| kinds.contains(kind)) {
            Some(kind) => (kind, rest),
            None => (bare, words),
        },
        all => (bare, all),
    };
    names.iter().map(|name| name_of(name, default, kinds)).collect()
}

/// As of [`object_words`], for pods only.
///
/// # Errors
/// A text for the user.
pub fn pod_words(words: &[String]) -> Result<Vec<String>, String> {
    Ok(object_words(words, &[Kind::Pods])?.into_iter().map(|(_, name)| name).collect())
}

/// One pod and perhaps a container: `NAME`, `NAME/CONTAINER`, `pod NAME`, `pod/NAME`, `pod/NAME/CONTAINER`.
///
/// # Errors
/// A text for the user.
pub fn pod_and_container(words: &[String], container: Option<&str>) -> Result<(String, Option<String>), String> {
    let word = match words {
        [one] => one.as_str(),
        [first, name] if Kind::of_word(first) == Some(Kind::Pods) => name.as_str(),
        _ => return Err("accepted: one pod, NAME or NAME/CONTAINER".to_owned()),
    };
    let word = match word.split_once('/') {
        Some((prefix, rest)) if Kind::of_word(prefix) == Some(Kind::Pods) => rest,
        _ => word,
    };
    let (name, named) = word.split_once('/').map_or((word, None), |(name, container)| (name, Some(container)));
    match (named, container) {
        (Some(a), Some(b)) if a != b => Err(format!("two containers are named: {a} and {b}")),
        (named, option) => {
            let (_, name) = name_of(name, Kind::Pods, &[Kind::Pods])?;
            Ok((name, option.or(named).map(str::to_owned)))
        }
    }
}

/// What is to be explained: a pod, maybe one of its containers, a job or a cron job.
///
/// # Errors
/// A text for the user.
pub fn explained(words: &[String], container: Option<&str>) -> Result<(Kind, String, Option<String>), String> {
    let batch = |word: &str| Kind::of_word(word).filter(|kind| matches!(kind, Kind::Jobs | Kind::CronJobs));
    let first = words.first().map(String::as_str).unwrap_or_default();
    let (prefix, rest) = first.split_once('/').map_or((first, None), |(prefix, rest)| (prefix, Some(rest)));
    let named = match (batch(prefix), rest, words) {
        (Some(kind), Some(name), [_]) => Some((kind, name)),
        (Some(kind), None, [_, name]) => Some((kind, name.as_str())),
        _ => None,
    };
    let Some((kind, name)) = named else {
        let (name, container) = pod_and_container(words, container)?;
        return Ok((Kind::Pods, name, container));
    };
    if let Some(container) = container {
        let (word, message) = (kind.word(), "has no containers; ask about one of its pods");
        return Err(format!("a {word} {message}: podwright why POD/{container}"));
    }
    let (_, name) = name_of(name, kind, &[kind])?;
    Ok((kind, name, None))
}

/// The pod whose life is to be drawn.
///
/// # Errors
/// A text for the user.
pub fn charted(words: &[String]) -> Result<String, String> {
    let (kind, name, _) = explained(words, None)?;
    let of_its_own = format!("a {} has no chart of its own", kind.word());
    match kind {
        Kind::Jobs => Err(format!("{of_its_own}; its pods have: podwright get pods -l job-name={name}")),
        Kind::CronJobs => Err(format!("{of_its_own}; what became of its jobs: podwright why cronjob/{name}")),
        Kind::Pods | Kind::Events | Kind::Files => Ok(name),
    }
}

/// `NAME` of a default kind, or `KIND/NAME`.
///
/// # Errors
/// A text for the user.
pub fn name_of(word: &str, default: Kind, kinds: &[Kind]) -> Result<(Kind, String), String> {
    let (kind, name) = match word.split_once('/') {
        Some((prefix, name)) => match Kind::of_word(prefix).filter(|kind| kinds.contains(kind)) {
            Some(kind) => (kind, name),
            None => {
                let accepted: Vec<String> = kinds.iter().map(|kind| format!("{}/NAME", kind.word())).collect();
                let accepted = accepted.join(", ");
                return Err(format!("\"{word}\": cannot do this with \"{prefix}\"; accepted: NAME, {accepted}"));
            }
        },
        None => (default, word),
    };
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || !name.chars().all(legal) {
        let what = kind.word();
        return Err(format!(
            "\"{name}\" cannot be the name of a {what}; accepted: lower-case letters, digits, - and ."
        ));
    }
    Ok((kind, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn names_may_have_their_kind() {
        let pods = |text: &str| pod_words(&words(text)).unwrap().join(" ");
        assert_eq!(pods("web"), "web");
        assert_eq!(pods("pod web db"), "web db");
        assert_eq!(pods("pod/web po/db"), "web db");
        assert_eq!(pods("pod"), "pod");
        assert!(pod_words(&words("deployment/web")).unwrap_err().contains("\"deployment\""));
        assert!(pod_words(&words("Web_1")).is_err());
        assert!(pod_words(&words("pod/")).is_err());
        assert_eq!(get_words(&words("pods")).unwrap(), (Kind::Pods, vec![]));
        assert_eq!(get_words(&words("po/web pod/db")).unwrap(), (Kind::Pods, words("web db")));
        assert_eq!(get_words(&words("files")).unwrap(), (Kind::Files, vec![]));
        let objects = |text: &str| object_words(&words(text), &[Kind::Pods, Kind::Jobs]);
        assert_eq!(objects("web job/nightly").unwrap(), [(Kind::Pods, "web".into()), (Kind::Jobs, "nightly".into())]);
        assert_eq!(objects("jobs a b").unwrap(), [(Kind::Jobs, "a".into()), (Kind::Jobs, "b".into())]);
        assert!(objects("cronjob/x").unwrap_err().ends_with("accepted: NAME, pod/NAME, job/NAME"));
        assert_eq!(get_words(&words("job nightly")).unwrap(), (Kind::Jobs, words("nightly")));
        assert_eq!(get_words(&words("cj")).unwrap(), (Kind::CronJobs, vec![]));
        assert!(get_words(&words("job/a pod/b")).is_err());
        assert!(get_words(&words("files x")).is_err());
        assert!(get_words(&words("events/x")).is_err());
        assert!(get_words(&words("nodes")).unwrap_err().contains("cannot get \"nodes\""));
    }

    #[test]
    fn a_container_may_stand_behind_its_pod() {
        let both = |text: &str| pod_and_container(&words(text), None);
        let web = |container: Option<&str>| Ok(("web".to_owned(), container.map(str::to_owned)));
        for (text, container) in [
            ("web", None),
            ("web/app", Some("app")),
            ("pod web", None),
            ("pod/web/app", Some("app")),
            ("pod web/app", Some("app")),
        ] {
            assert_eq!(both(text), web(container), "{text}");
        }
        assert_eq!(charted(&words("pod/web")), Ok("web".to_owned()));
        assert!(charted(&words("job/nightly")).unwrap_err().ends_with("get pods -l job-name=nightly"));
        assert_eq!(pod_and_container(&words("web/app"), Some("app")), web(Some("app")));
        assert!(pod_and_container(&words("web/app"), Some("db")).is_err());
        assert!(both("web db").is_err());
    }
}
