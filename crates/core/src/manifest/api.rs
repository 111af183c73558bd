//! Objects as an API server would show them: what was written, defaults filled in.

use serde_json::{Map, Value, json};

use super::Resource;
use super::convert::container::{MESSAGE_PATH, default_pull_policy};
use crate::cron::spec::CronSpec;
use crate::job::spec::{JobSpec, Replacement};
use crate::pod::spec::PullPolicy;

/// The object as an API server would show it, without `status` and `metadata.creationTimestamp`, which the caller knows.
pub fn shown(resource: &Resource) -> Value {
    let mut shown = resource.manifest().clone();
    fill_head(&mut shown, resource.namespace(), resource.uid());
    if let Some(fields) = object(&mut shown, "spec") {
        match resource {
            Resource::Pod(pod) => fill_spec(fields, pod.spec.host_network),
            Resource::Job(job) => {
                fill_job_spec(fields, &job.spec);
                let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": job.spec.uid}});
                fields.insert("selector".to_owned(), selector);
            }
            Resource::CronJob(cron) => fill_cron_spec(fields, &cron.spec),
        }
    }
    shown
}

fn fill_cron_spec(fields: &mut Map<String, Value>, spec: &CronSpec) {
    for (key, value) in [
        ("concurrencyPolicy", json!("Allow")),
        ("suspend", json!(false)),
        ("successfulJobsHistoryLimit", json!(spec.successful_limit)),
        ("failedJobsHistoryLimit", json!(spec.failed_limit)),
    ] {
        default(fields, key, value);
    }
    if let Some(fields) = fields.get_mut("jobTemplate").and_then(|t| object(t, "spec")) {
        fill_job_spec(fields, &spec.template.job);
    }
}

fn fill_head(value: &mut Value, namespace: &str, uid: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object(value, "metadata") {
        default(metadata, "namespace", json!(namespace));
        metadata.insert("uid".to_owned(), json!(uid));
    }
}

fn fill_job_spec(fields: &mut Map<String, Value>, spec: &JobSpec) {
    let replacement = match spec.replacement {
        Replacement::TerminatingOrFailed => "TerminatingOrFailed",
        Replacement::Failed => "Failed",
    };
    for (key, value) in [
        ("parallelism", json!(spec.parallelism)),
        ("completionMode", json!(if spec.indexed { "Indexed" } else { "NonIndexed" })),
        ("backoffLimit", json!(spec.backoff_limit)),
        ("manualSelector", json!(false)),
        ("podReplacementPolicy", json!(replacement)),
        ("suspend", json!(spec.suspend)),
    ] {
        default(fields, key, value);
    }
    if let Some(completions) = spec.completions {
        default(fields, "completions", json!(completions));
    }
    if let Some(pod) = fields.get_mut("template").and_then(|t| object(t, "spec")) {
        fill_spec(pod, spec.template.pod.host_network);
    }
}

/// A `v1` PodSpec.
fn fill_spec(spec: &mut Map<String, Value>, host_network: bool) {
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
    for list in ["initContainers", "containers"] {
        each(spec, list, |container| fill_container(container, host_network));
    }
    each(spec, "volumes", fill_volume);
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
    default(container, "terminationMessagePath", json!(MESSAGE_PATH));
    default(container, "terminationMessagePolicy", json!("File"));
    for key in ["startupProbe", "readinessProbe", "livenessProbe"] {
        if let Some(Value::Object(probe)) = container.get_mut(key) {
            fill_probe(probe);
        }
    }
    for key in ["postStart", "preStop"] {
        if let Some(Value::Object(hook)) = container.get_mut("lifecycle").and_then(|lifecycle| lifecycle.get_mut(key)) {
            fill_http_get(hook);
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
    fill_http_get(probe);
    if let Some(Value::Object(grpc)) = probe.get_mut("grpc") {
        default(grpc, "service", json!(""));
    }
}

fn fill_http_get(handler: &mut Map<String, Value>) {
    if let Some(Value::Object(get)) = handler.get_mut("httpGet") {
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
