//! `logs`.

use serde_json::Value;

use super::args::{self, Logs};
use super::client::encode;
use super::pods::{items, text};
use super::{CliError, Context, Done};

/// Which container `logs` takes if none is named (kubectl's own annotation).
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

pub(super) async fn logs(args: Logs, context: &mut Context) -> Done {
    let names = args::pod_words(&args.what).map_err(CliError::Usage)?;
    let [name] = names.as_slice() else {
        return Err(CliError::Usage("logs takes one pod; another container of it: -c NAME".to_owned()));
    };
    let path = format!("/api/v1/namespaces/{}/pods/{}", encode(&args.namespace), encode(name));
    let container = match args.container {
        Some(container) => container,
        None => {
            let pod = context.client.get(&format!("{path}?all=true")).await?;
            let (container, note) = default_container(&pod);
            if let Some(note) = note {
                eprintln!("{note}");
            }
            container
        }
    };
    let mut query = vec![format!("container={}", encode(&container))];
    for (name, set) in [("follow", args.follow), ("previous", args.previous), ("timestamps", args.timestamps)] {
        query.extend(set.then(|| format!("{name}=true")));
    }
    query.extend(args.tail.and_then(|n| u64::try_from(n).ok()).map(|n| format!("tailLines={n}")));
    let mut log = context.client.stream(&format!("{path}/log?{}", query.join("&"))).await?;
    while let Some(bytes) = log.bytes().await? {
        context.out.write(&bytes)?;
    }
    Ok(())
}

/// The container that is meant by none, and what to say about the choice, in kubectl's words.
fn default_container(pod: &Value) -> (String, Option<String>) {
    let spec = &pod["spec"];
    let mains = || items(&spec["containers"]).map(|c| text(&c["name"]));
    let inits = || items(&spec["initContainers"]).map(|c| text(&c["name"]));
    let annotated = text(&pod["metadata"]["annotations"][DEFAULT_CONTAINER]);
    if mains().chain(inits()).any(|name| name == annotated) {
        return (annotated, None);
    }
    let chosen = mains().next().unwrap_or_default();
    let all: Vec<String> = mains().chain(inits().map(|name| format!("{name} (init)"))).collect();
    let note = (all.len() > 1).then(|| format!("Defaulted container \"{chosen}\" out of: {}", all.join(", ")));
    (chosen, note)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_container() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "app"}]}});
        assert_eq!(default_container(&pod), ("app".to_owned(), None));
        pod["spec"]["initContainers"] = json!([{"name": "proxy"}]);
        let note = "Defaulted container \"app\" out of: app, proxy (init)".to_owned();
        assert_eq!(default_container(&pod), ("app".to_owned(), Some(note)));
        pod["metadata"]["annotations"] = json!({DEFAULT_CONTAINER: "proxy"});
        assert_eq!(default_container(&pod), ("proxy".to_owned(), None));
    }
}
