//! `logs`.

use serde_json::Value;

use super::args::Logs;
use super::client::encode;
use super::context::Context;
use super::error::{CliError, Done};
use super::get::in_namespace;
use super::kind::Kind;
use super::page::Page;
use super::pods::{items, text};
use super::words;

/// Which container `logs` takes if none is named (kubectl's own annotation).
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

pub(super) async fn logs(args: Logs, context: &mut Context) -> Done {
    let objects = words::object_words(&args.what, &[Kind::Pods, Kind::Jobs]).map_err(CliError::Usage)?;
    let [(kind, name)] = objects.as_slice() else {
        return Err(CliError::Usage("logs takes one pod; another container of it: -c NAME".to_owned()));
    };
    let pods = in_namespace(Kind::Pods, &args.namespace);
    let pod = if *kind == Kind::Jobs { pod_of_job(context, &pods, name).await? } else { name.clone() };
    let path = format!("{pods}/{}", encode(&pod));
    let container = match args.container {
        Some(container) => container,
        None => {
            let pod = context.client.get(&format!("{path}?all=true")).await?;
            let (container, note) = default_container(&pod);
            if let Some(note) = note {
                context.out.note(&Page::of_line(note));
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
        context.out.raw(&bytes)?;
    }
    Ok(())
}

/// The pod of a job that says most: one that runs, else the one made last. What else there is stands on stderr, in kubectl's
/// words.
async fn pod_of_job(context: &mut Context, pods: &str, job: &str) -> Result<String, CliError> {
    let selector = encode(&format!("batch.kubernetes.io/job-name={job}"));
    let list = context.client.get(&format!("{pods}?all=true&labelSelector={selector}")).await?;
    let (count, chosen) = choose(items(&list["items"]));
    let chosen = chosen.ok_or_else(|| CliError::NotFound(format!("job \"{job}\" has no pods")))?;
    if count > 1 {
        context.out.note(&Page::of_line(format_args!("Found {count} pods, using pod/{chosen}")));
    }
    Ok(chosen)
}

fn choose<'a>(pods: impl Iterator<Item = &'a Value>) -> (usize, Option<String>) {
    let rank = |pod: &Value| {
        let running = pod["status"]["phase"] == "Running";
        (running, text(&pod["metadata"]["creationTimestamp"]), text(&pod["metadata"]["name"]))
    };
    let pods: Vec<&Value> = pods.collect();
    let best = pods.iter().max_by_key(|pod| rank(pod)).map(|pod| text(&pod["metadata"]["name"]));
    (pods.len(), best)
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
    fn the_pod_of_a_job() {
        let pod = |name: &str, created: &str, phase: &str| json!({"metadata": {"name": name, "creationTimestamp": created}, "status": {"phase": phase}});
        let (old, new) =
            (pod("old", "2026-11-23T12:00:00Z", "Failed"), pod("new", "2026-11-23T12:01:00Z", "Succeeded"));
        assert_eq!(choose([&old, &new].into_iter()), (2, Some("new".to_owned())));
        let running = pod("now", "2026-11-23T11:00:00Z", "Running");
        assert_eq!(choose([&running, &new].into_iter()), (2, Some("now".to_owned())));
        assert_eq!(choose([].into_iter()), (0, None));
    }

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
