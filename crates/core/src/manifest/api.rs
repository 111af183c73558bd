//! A pod as an API server would show it: what was written, defaults filled in.

use serde_json::{Map, Value, json};

use super::Document;
use super::convert::container::default_pull_policy;
use crate::pod::spec::PullPolicy;

/// The `v1` Pod of a document, without `status` and `metadata.creationTimestamp`, which the caller knows.
pub fn api_pod(document: &Document) -> Value {
    let mut pod = document.manifest.clone();
    if let Some(fields) = pod.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object(&mut pod, "metadata") {
        default(metadata, "namespace", json!(document.pod.namespace));
        metadata.insert("uid".to_owned(), json!(document.pod.uid));
    }
    let Some(spec) = object(&mut pod, "spec") else { return pod };
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        // Without cluster DNS, what Kubernetes would call ClusterFirst comes to this.
        ("dnsPolicy", json!("Default")),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
    ] {
        default(spec, key, value);
    }
    let host_network = document.pod.host_network;
    for list in ["initContainers", "containers"] {
        each(spec, list, |container| fill_container(container, host_network));
    }
    each(spec, "volumes", fill_volume);
    pod
}

fn fill_container(container: &mut Map<String, Value>, host_network: bool) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = match default_pull_policy(image) {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    };
    default(container, "imagePullPolicy", json!(policy));
    default(container, "resources", json!({}));
    each(container, "ports", |port| {
        default(port, "protocol", json!("TCP"));
        if let Some(number) = port.get("containerPort").cloned().filter(|_| host_network) {
            default(port, "hostPort", number);
        }
    });
    for key in ["startupProbe", "readinessProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(key) {
            fill_probe(probe);
        }
    }
    if let Some(Value::Object(resources)) = container.get_mut("resources") {
        fill_requests(resources);
        for list in ["limits", "requests"] {
            if let Some(Value::Object(amounts)) = resources.get_mut(list) {
                amounts.values_mut().for_each(quantity);
            }
        }
    }
}

fn fill_probe(probe: &mut Map<String, Value>) {
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default(probe, key, json!(value));
    }
    if let Some(Value::Object(get)) = probe.get_mut("httpGet") {
        default(get, "path", json!("/"));
        default(get, "scheme", json!("HTTP"));
    }
}

/// A request that is not given is the limit.
fn fill_requests(resources: &mut Map<String, Value>) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    if let Value::Object(requests) = requests {
        for (key, value) in limits {
            default(requests, &key, value);
        }
    }
}

/// A quantity may be written as a number; the API shows a string.
fn quantity(value: &mut Value) {
    if value.is_number() {
        *value = json!(value.to_string());
    }
}

fn fill_volume(volume: &mut Map<String, Value>) {
    if let Some(size) = volume.get_mut("emptyDir").and_then(|dir| dir.get_mut("sizeLimit")) {
        quantity(size);
    }
    if let Some(Value::Object(path)) = volume.get_mut("hostPath") {
        default(path, "type", json!(""));
    }
}

fn default(fields: &mut Map<String, Value>, key: &str, value: Value) {
    fields.entry(key).or_insert(value);
}

fn object<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(key).and_then(Value::as_object_mut)
}

fn each(fields: &mut Map<String, Value>, key: &str, mut change: impl FnMut(&mut Map<String, Value>)) {
    if let Some(Value::Array(items)) = fields.get_mut(key) {
        items.iter_mut().filter_map(Value::as_object_mut).for_each(&mut change);
    }
}
