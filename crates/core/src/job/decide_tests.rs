use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::state::{PodEnd, PodSeen};
use super::testing::{Fixture, spec};
use super::{decide, pod_manifest};

#[test]
fn a_job_of_one_pod_completes() {
    let mut job = Fixture::new("");
    assert_eq!((job.counts().as_str(), job.conditions().as_str()), ("1/0/0", ""));
    assert!(job.plan.status.start_time.is_some());
    let pod = job.running().remove(0);
    assert!(pod.starts_with("j-") && pod.len() == 7, "{pod}");
    job.end(&pod, 0);
    assert_eq!(job.counts(), "0/1/0");
    assert_eq!(job.conditions(), "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached");
    assert!(job.plan.status.completion_time.is_some());
    assert_eq!(job.told, ["SuccessfulCreate", "Completed"]);
    job.pass(1_000_000);
    assert_eq!((job.running().len(), job.plan.expired), (0, false));
}

#[test]
fn as_many_run_at_a_time_as_are_wanted_and_no_more_than_are_left() {
    let mut job = Fixture::new("completions: 5, parallelism: 2");
    let mut done = 0;
    while job.state.finished_at.is_none() {
        let running = job.running();
        assert_eq!(running.len(), 2.min(5 - done), "after {done}");
        job.end(&running[0], 0);
        done += 1;
    }
    assert_eq!((done, job.counts().as_str()), (5, "0/5/0"));
}

#[test]
fn a_work_queue_ends_when_its_pods_do() {
    let mut job = Fixture::new("parallelism: 3");
    let running = job.running();
    assert_eq!(running.len(), 3);
    job.end(&running[0], 0);
    assert_eq!((job.counts().as_str(), job.conditions().as_str()), ("2/1/0", ""));
    job.end(&running[1], 1);
    job.pass(100);
    assert_eq!(job.running().len(), 1, "no more are made once one has found the end of the queue");
    job.end(&running[2], 0);
    assert!(job.conditions().contains("Complete:"));
    assert_eq!(job.counts(), "0/2/1");
}

#[test]
fn failures_are_borne_with_a_growing_delay_up_to_the_limit() {
    let mut job = Fixture::new("backoffLimit: 3");
    for delay in [10, 20, 40] {
        let pod = job.running().remove(0);
        job.end(&pod, 1);
        assert_eq!(job.running().len(), 0);
        assert_eq!(job.plan.wake_at, Some(job.now + Duration::from_secs(delay)));
        job.pass(delay - 1);
        assert_eq!(job.running().len(), 0);
        job.pass(1);
    }
    let pod = job.running().remove(0);
    job.end(&pod, 1);
    assert_eq!(job.conditions(), "FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded");
    assert_eq!(job.counts(), "0/0/4");
    assert_eq!(job.told.last().unwrap(), "BackoffLimitExceeded");
    assert_eq!(job.plan.status.completion_time, None);
}

#[test]
fn a_success_starts_the_delays_anew() {
    let mut job = Fixture::new("completions: 3, parallelism: 1");
    let pod = job.running().remove(0);
    job.end(&pod, 1);
    job.pass(10);
    let pod = job.running().remove(0);
    job.end(&pod, 0);
    assert_eq!(job.running().len(), 1, "made at once");
    let pod = job.running().remove(0);
    job.end(&pod, 1);
    assert_eq!(job.plan.wake_at, Some(job.now + Duration::from_secs(10)));
}

#[test]
fn a_failed_job_takes_its_other_pods_along_and_is_over_when_they_are() {
    let mut job = Fixture::new("completions: 3, parallelism: 3, backoffLimit: 0");
    let pods = job.running();
    job.end(&pods[0], 1);
    assert_eq!(job.conditions(), "FailureTarget:BackoffLimitExceeded");
    assert_eq!((job.running().len(), job.counts().as_str()), (0, "0/0/1"));
    assert_eq!(job.plan.status.terminating, Some(2));
    let stopped = PodEnd { stopped: true, ..job.end_of(0) };
    job.end_with(&pods[1], stopped);
    job.end(&pods[2], 143);
    assert!(job.conditions().ends_with(" Failed:BackoffLimitExceeded"));
    assert_eq!(job.counts(), "0/0/3", "one that leaves with 0 when told to stop was not through");
}

#[test]
fn restarts_in_place_count_against_the_limit() {
    let mut job = Fixture::new("OnFailure, backoffLimit: 2");
    let pod = job.running().remove(0);
    let live = |restarts| PodSeen::Live { ready: true, restarts, deleting: false };
    job.seen.insert(pod.clone(), live(1));
    job.decide();
    assert_eq!((job.plan.status.ready, job.conditions().as_str()), (Some(1), ""));
    job.seen.insert(pod, live(2));
    job.decide();
    assert_eq!(job.conditions(), "FailureTarget:BackoffLimitExceeded");
    let mut job = Fixture::new("OnFailure, backoffLimit: 0");
    let pod = job.running().remove(0);
    job.seen.insert(pod, live(1));
    job.decide();
    assert_eq!(job.conditions(), "FailureTarget:BackoffLimitExceeded");
}

#[test]
fn the_deadline_is_of_the_whole_job() {
    let mut job = Fixture::new("activeDeadlineSeconds: 30");
    assert_eq!(job.plan.wake_at, Some(job.now + Duration::from_secs(30)));
    let pod = job.running().remove(0);
    job.end(&pod, 1);
    job.pass(10);
    job.pass(20);
    assert_eq!(job.conditions(), "FailureTarget:DeadlineExceeded");
    let pod = job.state.pods.values().next().unwrap().name.clone();
    job.end(&pod, 143);
    assert_eq!(job.conditions(), "FailureTarget:DeadlineExceeded Failed:DeadlineExceeded");
}

#[test]
fn indexes_run_in_order_each_until_it_succeeds() {
    let mut job = Fixture::new("completions: 5, parallelism: 2, completionMode: Indexed");
    assert_eq!(job.indexes(), [0, 1]);
    job.end(&job.of_index(1), 0);
    assert_eq!(job.indexes(), [0, 2]);
    job.end(&job.of_index(0), 1);
    assert_eq!(job.indexes(), [2]);
    job.pass(10);
    assert_eq!(job.indexes(), [2, 0], "the lowest one that is open");
    for index in [0, 2, 3, 4] {
        job.end(&job.of_index(index), 0);
    }
    assert_eq!(job.plan.status.completed_indexes.as_deref(), Some("0-4"));
    assert_eq!(job.counts(), "0/5/1");
    assert!(job.conditions().contains("Complete:"));
}

#[test]
fn an_indexed_pod_knows_its_index() {
    let job = Fixture::new("completions: 3, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 1");
    let pod = job.state.pods.values().nth(1).unwrap();
    assert!(pod.name.starts_with("j-1-"), "{}", pod.name);
    let manifest = pod_manifest(&job.spec, pod);
    assert_eq!(manifest["spec"]["hostname"], "j-1");
    assert_eq!(manifest["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"], "1");
    assert_eq!(manifest["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"], "0");
    assert_eq!(manifest["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"], "1");
    assert_eq!(manifest["metadata"]["labels"]["job-name"], "j");
    assert_eq!(manifest["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(manifest["spec"]["initContainers"][1]["env"][0]["value"], "1");
}

#[test]
fn an_index_has_a_limit_and_a_delay_of_its_own() {
    let mut job = Fixture::new("completions: 3, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 1");
    job.end(&job.of_index(0), 1);
    assert_eq!(job.indexes(), [1, 2], "another one is not held up");
    job.end(&job.of_index(1), 0);
    assert_eq!(job.indexes(), [2]);
    job.pass(10);
    assert_eq!(job.indexes(), [2, 0]);
    let pod = job.state.pods.values().last().unwrap();
    assert_eq!(pod.index_failures.counted, 1);
    job.end(&job.of_index(0), 1);
    assert_eq!(job.plan.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(job.conditions(), "", "the others go on");
    job.end(&job.of_index(2), 0);
    assert_eq!(job.conditions(), "FailureTarget:FailedIndexes Failed:FailedIndexes");
    assert_eq!((job.plan.status.completed_indexes.as_deref(), job.counts().as_str()), (Some("1,2"), "0/2/2"));
}

#[test]
fn too_many_failed_indexes_end_the_job() {
    let mut job = Fixture::new(
        "completions: 4, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 0, maxFailedIndexes: 1",
    );
    job.end(&job.of_index(0), 1);
    assert_eq!((job.conditions().as_str(), job.indexes()), ("", vec![1, 2, 3]));
    job.end(&job.of_index(2), 1);
    assert_eq!(job.conditions(), "FailureTarget:MaxFailedIndexesExceeded");
    assert_eq!(job.plan.status.failed_indexes.as_deref(), Some("0,2"));
}

#[test]
fn a_suspended_job_has_no_pods_and_no_clock() {
    let mut job = Fixture::new("suspend: true, activeDeadlineSeconds: 30");
    assert_eq!((job.running().len(), job.conditions().as_str()), (0, "Suspended:JobSuspended"));
    assert_eq!(job.plan.status.start_time, None);
    job.pass(100);
    job.spec.suspend = false;
    job.decide();
    assert_eq!((job.running().len(), job.conditions().as_str()), (1, ""));
    assert_eq!(job.plan.wake_at, Some(job.now + Duration::from_secs(30)));
    job.pass(20);
    job.spec.suspend = true;
    job.decide();
    assert_eq!((job.running().len(), job.counts().as_str()), (0, "0/0/0"));
    let pod = job.state.pods.values().next().unwrap().name.clone();
    job.end(&pod, 143);
    assert_eq!(job.counts(), "0/0/0", "a pod that the job itself removed is no failure");
    job.pass(20);
    job.spec.suspend = false;
    job.decide();
    assert_eq!(job.plan.wake_at, Some(job.now + Duration::from_secs(30)), "the clock starts anew");
    assert_eq!(job.told.iter().filter(|r| *r == "Suspended" || *r == "Resumed").count(), 4);
}

#[test]
fn work_done_before_its_pod_was_told_to_stop_is_not_lost() {
    for (stopped, expected) in [(false, "0-1"), (true, "1")] {
        let mut job = Fixture::new("completions: 2, parallelism: 2, completionMode: Indexed");
        job.end(&job.of_index(1), 0);
        job.spec.suspend = true;
        job.decide();
        let end = PodEnd { stopped, ..job.end_of(0) };
        job.end_with(&job.of_index(0), end);
        let shown = job.plan.status.completed_indexes.clone().unwrap();
        assert_eq!(shown, if stopped { "1" } else { "0,1" }, "{expected}");
    }
}

#[test]
fn fewer_at_a_time_takes_the_youngest_away() {
    let mut job = Fixture::new("completions: 9, parallelism: 3");
    let pods = job.running();
    job.spec.parallelism = 1;
    job.decide();
    assert_eq!(job.running(), pods[..1]);
    assert_eq!(job.counts(), "1/0/0");
    job.end(&pods[1], 1);
    job.end(&pods[2], 1);
    assert_eq!((job.running().len(), job.counts().as_str()), (1, "1/0/0"));
}

#[test]
fn a_pod_that_somebody_deletes_is_replaced_at_once_or_when_it_is_gone() {
    let deleting = PodSeen::Live { ready: true, restarts: 0, deleting: true };
    let mut job = Fixture::new("");
    let pod = job.running().remove(0);
    job.seen.insert(pod.clone(), deleting.clone());
    job.decide();
    assert_eq!(job.counts(), "0/0/1");
    job.pass(10);
    assert_eq!((job.running().len(), job.plan.status.terminating), (1, Some(1)));
    job.end(&pod, 143);
    assert_eq!(job.counts(), "1/0/1");

    let mut job = Fixture::new("podReplacementPolicy: Failed");
    let pod = job.running().remove(0);
    job.seen.insert(pod.clone(), deleting);
    job.pass(100);
    assert_eq!((job.running().len(), job.counts().as_str()), (0, "0/0/0"));
    job.end(&pod, 143);
    job.pass(10);
    assert_eq!((job.running().len(), job.counts().as_str()), (1, "1/0/1"));
}

#[test]
fn enough_successes_end_the_job() {
    let mut job = Fixture::new(
        "completions: 5, parallelism: 5, completionMode: Indexed, successPolicy: {rules: [{succeededIndexes: '0', succeededCount: 1}, {succeededCount: 3}]}",
    );
    job.end(&job.of_index(3), 0);
    job.end(&job.of_index(4), 0);
    assert_eq!(job.conditions(), "");
    let pods = job.running();
    job.end(&job.of_index(0), 0);
    assert_eq!(job.conditions(), "SuccessCriteriaMet:SuccessPolicy");
    for pod in &pods[1..] {
        job.end(pod, 143);
    }
    assert_eq!(job.conditions(), "SuccessCriteriaMet:SuccessPolicy Complete:SuccessPolicy");
    assert_eq!(job.counts(), "0/3/0");
}

#[test]
fn a_job_that_is_over_goes_when_its_time_is_up() {
    let mut job = Fixture::new("ttlSecondsAfterFinished: 60");
    let pod = job.running().remove(0);
    job.end(&pod, 0);
    assert_eq!(job.plan.wake_at, Some(job.now + Duration::from_secs(60)));
    job.pass(59);
    assert!(!job.plan.expired);
    job.pass(1);
    assert!(job.plan.expired);

    let mut job = Fixture::new("ttlSecondsAfterFinished: 0");
    let pod = job.running().remove(0);
    job.end(&pod, 0);
    assert!(job.plan.expired);
}

#[test]
fn a_removed_job_is_gone_when_its_pods_are() {
    let mut job = Fixture::new("completions: 2, parallelism: 2");
    let pods = job.running();
    job.state.removal_at = Some(job.now);
    job.decide();
    assert!(!job.plan.gone && job.running().is_empty());
    job.end(&pods[0], 143);
    job.end(&pods[1], 143);
    assert!(job.plan.gone);
}

#[test]
fn nothing_to_do_is_complete_at_once_and_no_parallelism_waits() {
    assert!(Fixture::new("completions: 0").conditions().contains("Complete:"));
    let mut job = Fixture::new("completions: 3, parallelism: 0");
    assert_eq!((job.running().len(), job.conditions().as_str()), (0, ""));
    job.spec.parallelism = 7;
    job.decide();
    assert_eq!(job.running().len(), 3);
}

#[test]
fn who_died_before_a_pod_was_made_makes_it_under_the_same_name() {
    let job = spec("completions: 2, parallelism: 2");
    let state = super::state::JobState::new(crate::time::Time(5));
    let first = decide(&job, &state, &super::state::Seen::new(), crate::time::Time(6));
    let again = decide(&job, &first.state, &super::state::Seen::new(), crate::time::Time(99_000_000_000));
    assert_eq!(first.steps.len(), 2);
    assert_eq!(again.steps, first.steps);
    assert_eq!(again.state, first.state);
}

#[test]
fn long_names_are_cut_so_that_index_and_end_remain() {
    let mut job = spec("completions: 2, parallelism: 2, completionMode: Indexed");
    job.name = "n".repeat(60);
    let plan =
        decide(&job, &super::state::JobState::new(crate::time::Time(5)), &Default::default(), crate::time::Time(6));
    for pod in plan.state.pods.values() {
        assert_eq!(pod.name.len(), 63);
        assert!(pod.name.contains(&format!("-{}-", pod.index.unwrap())), "{}", pod.name);
    }
}

#[derive(Debug, Clone)]
enum Happens {
    End { pick: usize, code: i32, stopped: bool },
    Delete(usize),
    Pass(u64),
    Suspend(bool),
    Parallelism(u32),
    Forget,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (0_usize..8, prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(42)], any::<bool>())
            .prop_map(|(pick, code, stopped)| Happens::End { pick, code, stopped }),
        1 => (0_usize..8).prop_map(Happens::Delete),
        3 => (1_u64..400).prop_map(Happens::Pass),
        1 => any::<bool>().prop_map(Happens::Suspend),
        1 => (0_u32..5).prop_map(Happens::Parallelism),
        1 => Just(Happens::Forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens: no completed index has a pod again, none is lost, not more run than may, the end is one.
    #[test]
    fn a_job_keeps_its_books(
        fields in prop::sample::select(vec![
            "completions: 4, parallelism: 2",
            "parallelism: 2",
            "completions: 4, parallelism: 3, completionMode: Indexed",
            "completions: 4, parallelism: 3, completionMode: Indexed, podReplacementPolicy: Failed",
            "completions: 4, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 1, maxFailedIndexes: 2",
            "completions: 3, parallelism: 3, backoffLimit: 2, podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [42]}}]}",
        ]),
        story in prop::collection::vec(happens(), 0..60),
    ) {
        let mut job = Fixture::new(fields);
        let (mut completed, mut ended) = (BTreeSet::new(), None);
        for event in story {
            let live: Vec<String> = job
                .state
                .pods
                .values()
                .map(|pod| pod.name.clone())
                .filter(|name| matches!(job.seen.get(name), Some(PodSeen::Live { .. })))
                .collect();
            match event {
                Happens::End { pick, code, stopped } if !live.is_empty() => {
                    let name = &live[pick % live.len()];
                    let deleting = matches!(job.seen[name], PodSeen::Live { deleting: true, .. });
                    let end = PodEnd { stopped: stopped && deleting, ..job.end_of(code) };
                    job.end_with(name, end);
                }
                Happens::Delete(pick) if !live.is_empty() => {
                    let deleting = PodSeen::Live { ready: false, restarts: 0, deleting: true };
                    job.seen.insert(live[pick % live.len()].clone(), deleting);
                    job.decide();
                }
                Happens::Pass(seconds) => job.pass(seconds),
                Happens::Suspend(value) => { job.spec.suspend = value; job.decide(); }
                Happens::Parallelism(n) => { job.spec.parallelism = n; job.decide(); }
                // Ends that are counted are of no use any more.
                Happens::Forget => {
                    let state = &job.state;
                    job.seen.retain(|name, _| state.pods.values().any(|pod| pod.name == *name));
                    job.decide();
                }
                Happens::End { .. } | Happens::Delete(_) => {}
            }
            prop_assert!(job.running().len() <= job.spec.parallelism as usize || job.state.verdict.is_some());
            let now: BTreeSet<u32> = job.state.completed.iter().collect();
            prop_assert!(now.is_superset(&completed), "a completion was lost");
            completed = now;
            prop_assert!(job.indexes().iter().all(|index| !completed.contains(index)), "a completed index runs");
            if let Some(end) = &ended {
                prop_assert_eq!(&job.state.verdict, end);
                prop_assert!(job.running().is_empty());
            }
            if job.state.finished_at.is_some() {
                ended = Some(job.state.verdict.clone());
                prop_assert!(job.state.pods.is_empty());
            }
        }
    }
}

#[test]
fn a_pod_is_told_why_it_is_removed() {
    let mut job = Fixture::new("completions: 5, parallelism: 3");
    job.spec.parallelism = 2;
    job.decide();
    job.spec.suspend = true;
    job.decide();
    assert_eq!(job.removed, ["it wants fewer pods at a time", "it is suspended", "it is suspended"]);

    let mut job = Fixture::new("parallelism: 2, backoffLimit: 0");
    job.end(&job.running()[0].clone(), 1);
    assert_eq!(job.removed, ["it has failed"]);

    let mut job = Fixture::new(
        "completions: 2, parallelism: 2, completionMode: Indexed, successPolicy: {rules: [{succeededCount: 1}]}",
    );
    job.end(&job.of_index(0), 0);
    assert_eq!(job.removed, ["it has succeeded without it"]);

    let mut job = Fixture::new("");
    job.state.removal_at = Some(job.now);
    job.decide();
    assert_eq!(job.removed, ["it is being removed"]);
}
