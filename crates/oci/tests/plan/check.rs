//! What holds for every text that is given as a configuration. Also the body of the fuzz target in `fuzz/`.

use std::path::Path;

use oci_spec::runtime::Spec;
use podwright_inside as inside;
use podwright_oci::config::{self, ConfigError};
use podwright_oci::plan::{self, Context, Gate, Plan, PlanError, Step};
use serde_json::Value;

type Verdict = Result<(), String>;

/// Neither panics nor is planned in two ways; refusals name a field that is there, or missing; plans are in order.
pub(crate) fn check(text: &[u8]) -> Verdict {
    let spec: Spec = match config::parse(text) {
        Ok(spec) => spec,
        Err(ConfigError::Field { field, .. }) => return named(text, &field),
        Err(_) => return Ok(()),
    };
    // Read again, since maps and sets come in another order then.
    let again: Spec = config::parse(text).map_err(|err| err.to_string())?;
    for gate in [Gate::Go, Gate::Start] {
        let result = container(&spec, gate);
        if result != container(&again, gate) {
            return Err(format!("planned in two ways: {result:?}"));
        }
        match result {
            Err(error) => named(text, &error.field)?,
            // Without a process there is nothing to start; the rest holds all the same.
            Ok(plan) if spec.process().is_none() => root_in_order(&plan.steps)?,
            Ok(plan) => in_order(&plan, &spec)?,
        }
    }
    let Some(process) = spec.process() else { return Ok(()) };
    let plan = match plan::exec(&spec, process, "test") {
        Err(error) => return named(text, &error.field),
        Ok(plan) => plan,
    };
    let entered = first(&plan.steps, |step| matches!(step, Step::Inside(inside::Step::Enter(_))));
    let confined = plan.steps.iter().position(|step| {
        matches!(step, Step::Inside(inside::Step::Chdir(_)) | Step::Inside(inside::Step::SwitchUser { .. }))
    });
    if entered.is_none() || confined < entered {
        return Err("an exec does not enter the container first".into());
    }
    nothing_in_sight(&plan.steps)?;
    privileges_in_order(&plan.steps, plan.seccomp.is_some())
}

/// A process that goes on for another one gives up all that is left to give up, and does not enter, look up or raise anything.
fn nothing_in_sight(steps: &[Step]) -> Verdict {
    let Some(at) = first(steps, |step| *step == Step::Succeed) else { return Ok(()) };
    let (hidden, seen) = steps.split_at(at);
    let limited = hidden.iter().any(|step| matches!(step, Step::Inside(inside::Step::LimitBounding(_))));
    if !limited || !matches!(hidden.last(), Some(Step::Inside(inside::Step::KeepCapabilities(_)))) {
        return Err("a process begins with more capabilities than its container has".into());
    }
    let is_fine = |step: &Step| {
        let Step::Inside(step) = step else {
            return matches!(step, Step::Succeed | Step::Await(_) | Step::AttachTerminal);
        };
        matches!(
            step,
            inside::Step::NewSession
                | inside::Step::Scheduler(_)
                | inside::Step::Capabilities { .. }
                | inside::Step::NoNewPrivileges
                | inside::Step::LoadFilter
                | inside::Step::Exec(_)
        )
    };
    match seen.iter().find(|step| !is_fine(step)) {
        Some(step) => Err(format!("{step:?} is done in the container's sight")),
        None => Ok(()),
    }
}

/// Whether it can be planned.
pub(crate) fn plans(text: &[u8]) -> bool {
    config::parse::<Spec>(text).is_ok_and(|spec| container(&spec, Gate::Go).is_ok())
}

fn container(spec: &Spec, gate: Gate) -> Result<Plan, PlanError> {
    plan::container(
        spec,
        &Context { id: "id", bundle: Path::new("/bundle"), gate, keyring: true, pivot: true, systemd: false },
    )
}

fn named(text: &[u8], field: &str) -> Verdict {
    // What is nested too deeply for a value can be passed over by the parser, if it is nothing of the specification's.
    let Ok(input) = serde_json::from_slice::<Value>(text) else { return Ok(()) };
    if is_named(&input, field) { Ok(()) } else { Err(format!("{field:?} is neither there nor missing")) }
}

/// Whether this is the path of something in the input, or of something that is missing from what is there. A blank or a colon
/// ends a path; what follows explains.
pub(crate) fn is_named(input: &Value, field: &str) -> bool {
    field == "the top level" || !field.is_empty() && follow(input, field)
}

fn follow(value: &Value, rest: &str) -> bool {
    if rest.is_empty() || rest.starts_with([' ', ':']) {
        return true;
    }
    if let Some(rest) = rest.strip_prefix('[') {
        let Some((index, rest)) = rest.split_once(']') else { return false };
        return index.parse().ok().and_then(|index: usize| value.get(index)).is_some_and(|item| follow(item, rest));
    }
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let below = |(key, item): (&String, &Value)| {
        let after = rest.strip_prefix(key.as_str())?;
        (after.is_empty() || after.starts_with(['.', '[', ' ', ':'])).then(|| follow(item, after))
    };
    let found = value.as_object().is_some_and(|map| map.iter().filter_map(below).any(|found| found));
    let name = rest.split([' ', ':']).next().unwrap_or_default();
    found || !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn first(steps: &[Step], is: impl Fn(&Step) -> bool) -> Option<usize> {
    steps.iter().position(is)
}

fn last(steps: &[Step], is: impl Fn(&Step) -> bool) -> Option<usize> {
    steps.iter().rposition(is)
}

fn in_order(plan: &Plan, spec: &Spec) -> Verdict {
    let steps = &plan.steps;
    let count = |is: fn(&Step) -> bool| steps.iter().filter(|step| is(step)).count();
    let mounted = count(|step| is_mount(step) && !matches!(step, Step::Devices(_) | Step::DevLinks));
    let wanted = spec.mounts().as_ref().map_or(0, Vec::len);
    if mounted != wanted {
        return Err(format!("{wanted} mounts are asked for, {mounted} are made"));
    }
    for (name, list, made) in [
        ("masked", spec.linux().as_ref().and_then(|linux| linux.masked_paths().as_ref()), count(is_mask)),
        ("read-only", spec.linux().as_ref().and_then(|linux| linux.readonly_paths().as_ref()), count(is_readonly)),
    ] {
        if list.map_or(0, Vec::len) != made {
            return Err(format!("{made} paths are {name}"));
        }
    }
    root_in_order(steps)?;
    privileges_in_order(steps, plan.seccomp.is_some())?;
    let asked = spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
    if asked == plan.seccomp.is_some() { Ok(()) } else { Err("a filter is forgotten".into()) }
}

fn is_mask(step: &Step) -> bool {
    matches!(step, Step::Mask(_))
}

fn is_readonly(step: &Step) -> bool {
    matches!(step, Step::ReadonlyPath(_))
}

/// What looks a path up below the container's root from outside, or needs the host's `/proc`.
fn is_outside(step: &Step) -> bool {
    matches!(
        step,
        Step::Propagation(_)
            | Step::BindRoot { .. }
            | Step::MountFs(_)
            | Step::Bind(_)
            | Step::MountCgroup { .. }
            | Step::ChangeMount { .. }
            | Step::Remount { .. }
            | Step::Devices(_)
            | Step::DevLinks
            | Step::MakeCwd(_)
            | Step::Sysctl { .. }
            | Step::Inside(inside::Step::OomScoreAdj(_))
            | Step::Join { .. }
            | Step::SealMounts
            | Step::Mask(_)
            | Step::ReadonlyPath(_)
            | Step::ReadonlyRoot
    )
}

fn is_mount(step: &Step) -> bool {
    matches!(
        step,
        Step::MountFs(_)
            | Step::Bind(_)
            | Step::MountCgroup { .. }
            | Step::ChangeMount { .. }
            | Step::Remount { .. }
            | Step::Devices(_)
            | Step::DevLinks
    )
}

/// Mounts, then what hides parts of them, then the new root, and nothing of the kind after it.
fn root_in_order(steps: &[Step]) -> Verdict {
    let changes = |step: &Step| matches!(step, Step::PivotRoot | Step::MoveRoot | Step::Chroot);
    let pivots: Vec<usize> = (0..steps.len()).filter(|&at| changes(&steps[at])).collect();
    let [pivot] = pivots[..] else { return Err(format!("the root changes {} times", pivots.len())) };
    let rules = [
        ("something is looked up from outside after the root has changed", last(steps, is_outside) < Some(pivot)),
        (
            "something is mounted before the root is there",
            first(steps, is_mount) > first(steps, |step| matches!(step, Step::BindRoot { .. }))
                || first(steps, is_mount).is_none(),
        ),
        (
            "something is mounted over a mask",
            first(steps, |step| is_mask(step) || is_readonly(step))
                .is_none_or(|hidden| last(steps, is_mount) < Some(hidden)),
        ),
        (
            "a path of the container is looked up by name before the root has changed",
            first(steps, |step| {
                matches!(
                    step,
                    Step::Inside(inside::Step::Chdir(_))
                        | Step::FindProgram { .. }
                        | Step::Inside(inside::Step::Exec(_))
                )
            })
            .is_none_or(|named| named > pivot),
        ),
        ("privileges go before the root has changed", first(steps, is_loss).is_none_or(|loss| loss > pivot)),
    ];
    broken(&rules)
}

fn is_loss(step: &Step) -> bool {
    matches!(
        step,
        Step::Inside(inside::Step::LimitBounding(_))
            | Step::Inside(inside::Step::SwitchUser { .. })
            | Step::Inside(inside::Step::Capabilities { .. })
            | Step::Inside(inside::Step::NoNewPrivileges)
            | Step::Inside(inside::Step::LoadFilter)
    )
}

/// The bounding set, the user, the capabilities; the filter with nothing after it that it could refuse but what drops privileges.
fn privileges_in_order(steps: &[Step], filtered: bool) -> Verdict {
    let at = |is: fn(&Step) -> bool| first(steps, is);
    let (bounding, user) = (
        at(|step| matches!(step, Step::Inside(inside::Step::LimitBounding(_)))),
        at(|step| matches!(step, Step::Inside(inside::Step::SwitchUser { .. }))),
    );
    let capabilities = at(|step| matches!(step, Step::Inside(inside::Step::Capabilities { .. })));
    let filter = at(|step| *step == Step::Inside(inside::Step::LoadFilter));
    let exec = at(|step| matches!(step, Step::Inside(inside::Step::Exec(_))));
    let after_filter = filter.map_or(&[][..], |filter| &steps[filter + 1..]);
    let rules = [
        ("the last step is no program", exec.is_some() && exec == steps.len().checked_sub(1)),
        ("capabilities do not go in order", bounding.is_some() && bounding < user && user < capabilities),
        (
            "descriptors stay open",
            first(steps, |step| matches!(step, Step::Inside(inside::Step::CloseDescriptors)))
                .is_some_and(|close| Some(close) < user),
        ),
        (
            "a gate comes after the loss of privileges",
            at(|step| *step == Step::Succeed).is_some()
                || last(steps, |step| matches!(step, Step::Await(_))) < bounding,
        ),
        ("the filter is missing, or nobody asked for it", filter.is_some() == filtered),
        (
            "the filter does not come last",
            after_filter.iter().all(|step| {
                matches!(step, Step::Inside(inside::Step::Capabilities { .. }) | Step::Inside(inside::Step::Exec(_)))
            }),
        ),
        (
            "with no_new_privs the filter comes before it",
            at(|step| *step == Step::Inside(inside::Step::NoNewPrivileges))
                .is_none_or(|set| filter.is_none() || Some(set) < filter),
        ),
    ];
    broken(&rules)
}

fn broken(rules: &[(&str, bool)]) -> Verdict {
    rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(rule, _)| Err((*rule).to_owned()))
}

/// Control: a plan in which any two neighbours that matter are swapped, or one of them is missing, is not in order.
pub(crate) fn notices_wrong_orders() {
    let text = br#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"args": ["sh"], "cwd": "/",
        "user": {"uid": 1, "gid": 1}, "noNewPrivileges": true}, "mounts": [{"destination": "/proc", "type": "proc"}],
        "linux": {"namespaces": [{"type": "mount"}], "maskedPaths": ["/proc/kcore"],
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}}"#;
    let spec: Spec = config::parse(text).expect("a valid configuration");
    let plan = container(&spec, Gate::Go).expect("a plan");
    in_order(&plan, &spec).expect("a plan in order");
    let moved: [fn(&Step) -> bool; 8] = [
        |step| matches!(step, Step::MountFs(_)),
        is_mask,
        |step| *step == Step::PivotRoot,
        |step| matches!(step, Step::Inside(inside::Step::LimitBounding(_))),
        |step| matches!(step, Step::Inside(inside::Step::SwitchUser { .. })),
        |step| matches!(step, Step::Inside(inside::Step::Capabilities { .. })),
        |step| *step == Step::Inside(inside::Step::LoadFilter),
        |step| matches!(step, Step::Inside(inside::Step::Exec(_))),
    ];
    for is in moved {
        let at = first(&plan.steps, is).expect("the step");
        let mut wrong = plan.clone();
        let step = wrong.steps.remove(at);
        assert!(in_order(&wrong, &spec).is_err(), "nobody misses {step:?}");
        for to in [0, wrong.steps.len()] {
            let mut wrong = wrong.clone();
            wrong.steps.insert(to, step.clone());
            assert!(to == at || in_order(&wrong, &spec).is_err(), "{step:?} may come at {to}");
        }
    }
}
