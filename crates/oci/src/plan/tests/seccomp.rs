//! `linux.seccomp`.

use super::*;
use podwright_sys::seccomp::{Action, FLAG_WAIT_KILLABLE_RECV};

fn profile(value: Value) -> filter::Profile {
    with("/linux/seccomp", value).unwrap().seccomp.unwrap()
}

#[test]
fn an_errno_is_the_actions_own_or_eperm() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}, {"names": ["rmdir"], "action": "SCMP_ACT_TRACE", "errnoRet": 7}
        ]
    }));
    assert_eq!(profile.default, Action::Errno(38));
    assert_eq!(profile.rules[0].action, Action::Errno(1), "the default one is the default action's");
    assert_eq!(profile.rules[1].action, Action::Trace(7));
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let arg = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let rules = |args: Value| {
        let rule = json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": args});
        profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})).rules
    };
    assert_eq!(rules(json!([arg(0, 1), arg(1, 2)])).len(), 1, "both have to hold");
    let alternatives = rules(json!([arg(0, 1), arg(0, 2)]));
    assert_eq!(alternatives.iter().map(|rule| rule.compare[0].value).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_listener_goes_with_notifications() {
    let with_path = |action: &str| {
        let plan = with(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "listenerMetadata": "m",
                "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "syscalls": [{"names": ["mkdir"], "action": action}]
            }),
        );
        plan.unwrap()
    };
    let plan = with_path("SCMP_ACT_NOTIFY");
    assert_eq!(plan.listener, Some(Listener { path: "/run/agent".into(), metadata: "m".into() }));
    let profile = plan.seccomp.unwrap();
    assert!(profile.notifies() && profile.flags == FLAG_WAIT_KILLABLE_RECV);
    assert_eq!(with_path("SCMP_ACT_LOG").listener, None, "ignored where nobody is notified");
    assert!(!plan.steps.contains(&Step::OfferListener), "run has it handed over when the filter is loaded");
}

#[test]
fn create_offers_the_listener_before_it_waits() {
    let mut config = everything();
    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    ]});
    let order = |config: &Value| kinds(&plan_gated(config, Gate::Start).unwrap().steps).join(" ");
    let notifying = order(&config);
    assert!(notifying.contains("PivotRoot FindProgram OfferListener Await StartContainerHooks"), "{notifying}");
    assert!(notifying.ends_with("NoNewPrivileges LoadFilter Exec"), "{notifying}");
    assert!(!order(&everything()).contains("OfferListener"), "nobody is notified");
}

#[test]
fn wrong_profiles_are_refused() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let notify = |more: Value| {
        let mut value = json!({"defaultAction": "SCMP_ACT_NOTIFY"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    refused(&[
        ("/linux/seccomp", notify(json!({})), "linux.seccomp.listenerPath"),
        ("/linux/seccomp", notify(json!({"listenerPath": "relative"})), "linux.seccomp.listenerPath"),
        ("/linux/seccomp", notify(json!({"listenerMetadata": "m"})), "linux.seccomp.listenerMetadata"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}),
            "linux.seccomp.defaultErrnoRet",
        ),
        ("/linux/seccomp", rule(json!({"names": [], "action": "SCMP_ACT_LOG"})), "linux.seccomp.syscalls[0].names"),
        (
            "/linux/seccomp",
            rule(json!({"names": ["read"], "action": "SCMP_ACT_LOG", "errnoRet": 1})),
            "linux.seccomp.syscalls[0].errnoRet",
        ),
        (
            "/linux/seccomp",
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 70000})),
            "linux.seccomp.syscalls[0].errnoRet",
        ),
        (
            "/linux/seccomp",
            rule(
                json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}),
            ),
            "linux.seccomp.syscalls[0].args",
        ),
    ]);
}
