//! Changes of a configuration that keep most of its structure.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// One change: of which node, what, and with which value. The numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mutation {
    node: u32,
    change: u8,
    value: u32,
}

impl Arbitrary for Mutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let fields = (any::<u32>(), any::<u8>(), any::<u32>());
        fields.prop_map(|(node, change, value)| Self { node, change, value }).boxed()
    }
}

impl Mutation {
    pub(crate) fn apply(self, config: &mut Value, seeds: &[Value]) {
        let nodes = pointers(config);
        let at = &nodes[self.node as usize % nodes.len()];
        let value = self.value as usize;
        match self.change % 6 {
            0 => remove(config, at),
            1 | 2 => put(config, at, odd(value)),
            // What another configuration has at the same place, or in another one.
            3 => {
                let other = &seeds[value % seeds.len()];
                let there = other.pointer(at).cloned().unwrap_or_else(|| {
                    let nodes = pointers(other);
                    other.pointer(&nodes[value % nodes.len()]).cloned().unwrap_or(Value::Null)
                });
                put(config, at, there);
            }
            4 => {
                let from = &nodes[value % nodes.len()];
                let copy = config.pointer(from).cloned().unwrap_or(Value::Null);
                put(config, at, copy);
            }
            _ => repeat_or_rename(config, at, value),
        }
    }
}

/// JSON pointers of all values, the top included.
fn pointers(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    collect(value, "", &mut found);
    found
}

fn collect(value: &Value, path: &str, found: &mut Vec<String>) {
    let mut below = |key: String, value: &Value| {
        let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push(path.clone());
        collect(value, &path, found);
    };
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(index, item)| below(index.to_string(), item)),
        Value::Object(map) => map.iter().for_each(|(key, item)| below(key.clone(), item)),
        _ => {}
    }
}

fn put(config: &mut Value, at: &str, value: Value) {
    if let Some(place) = config.pointer_mut(at) {
        *place = value;
    }
}

fn remove(config: &mut Value, at: &str) {
    let Some((parent, key)) = at.rsplit_once('/') else { return };
    match config.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(list)) => {
            if let Some(index) = key.parse().ok().filter(|index| *index < list.len()) {
                list.remove(index);
            }
        }
        _ => {}
    }
}

/// Lists get an element once more, objects an element under another name.
fn repeat_or_rename(config: &mut Value, at: &str, value: usize) {
    const NAMES: [&str; 8] = ["type", "path", "memory", "rdma", "uidMappings", "kernel.hostname", "a.b", ""];
    match config.pointer_mut(at) {
        Some(Value::Array(list)) if !list.is_empty() => {
            let item = list[value % list.len()].clone();
            list.push(item);
        }
        Some(Value::Object(map)) if !map.is_empty() => {
            let item = map.values().nth(value % map.len()).cloned().unwrap_or(Value::Null);
            map.insert(NAMES[value % NAMES.len()].to_owned(), item);
        }
        _ => {}
    }
}

/// Values that are wrong nearly everywhere, and some that are right in places.
static ODD: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let texts = "|.|/|..|/..|../../..|/proc|//proc/|/proc/self/exe|/proc/self/fd/7|/dev|/dev/null|relative/path|a\0b|\0|\
        \u{e4}\u{202e}\u{7f}\n|-1|0|rbind|ro|tmpcopyup|idmap|shared|proc|tmpfs|cgroup|bind|none|user|mount|pid|time|network|\
        SCMP_ACT_NOTIFY|SCMP_ACT_ERRNO|CAP_SYS_ADMIN|RLIMIT_NOFILE|system.slice:a:b|a:b:c:d|1.2.0|2.0.0|rwm|c|SCHED_DEADLINE|\
        0-1,3|max|%s%n|${PATH}";
    let numbers = [0, 1, -1, -2, i64::MIN, i64::MAX, i64::from(u32::MAX), i64::from(u32::MAX) + 1];
    let others = [
        json!(null),
        json!(true),
        json!(false),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
        json!([]),
        json!({}),
        json!([null]),
        json!([[]]),
        json!({"": null}),
        json!("x".repeat(5000)),
        json!(vec!["x"; 30]),
        deep(100),
    ];
    texts.split('|').map(|text| json!(text)).chain(numbers.map(|number| json!(number))).chain(others).collect()
});

fn odd(which: usize) -> Value {
    ODD[which % ODD.len()].clone()
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
}

/// JSON merge patch (RFC 7396), for objects.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else { return };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (key, change) in changes {
        if change.is_object() {
            merge(&mut target[key], change);
        } else {
            target[key] = change.clone();
        }
    }
}
