use super::policy::{Meaning, meaning, success};
use super::testing::{Fixture, spec};

/// A policy of these rules, and what a pod with these exit codes of init, sidecar and main means under it.
fn check(rules: &str, exits: [i32; 3], expected: &Meaning) {
    let indexed = "completions: 2, completionMode: Indexed, backoffLimitPerIndex: 1";
    let job = spec(&format!("{indexed}, podFailurePolicy: {{rules: [{rules}]}}"));
    let mut end = Fixture::new("").end_of(1);
    for ((_, code), given) in end.exits.iter_mut().zip(exits) {
        *code = given;
    }
    end.conditions = vec![("Ready".into(), "False".into()), ("DisruptionTarget".into(), "True".into())];
    assert_eq!(meaning(&job, "p", &end), *expected, "{rules}");
}

#[test]
fn the_first_rule_that_matches_decides() {
    let fails = |container: &str, code: i32, n: usize| {
        Meaning::FailsJob(format!(
            "Container {container} for pod default/p failed with exit code {code} matching FailJob rule at index {n}"
        ))
    };
    let fail_42 = "{action: FailJob, onExitCodes: {operator: In, values: [3, 42]}}";
    let ignore_42 = "{action: Ignore, onExitCodes: {operator: In, values: [42]}}";
    check(fail_42, [0, 0, 42], &fails("main", 42, 0));
    check(fail_42, [0, 0, 1], &Meaning::Counts);
    check(&format!("{ignore_42}, {fail_42}"), [0, 0, 42], &Meaning::Ignored);
    check(&format!("{ignore_42}, {fail_42}"), [0, 0, 3], &fails("main", 3, 1));
    check("{action: FailIndex, onExitCodes: {operator: NotIn, values: [42]}}", [0, 0, 1], &Meaning::FailsIndex);
    check("{action: FailIndex, onExitCodes: {operator: NotIn, values: [42]}}", [0, 0, 42], &Meaning::Counts);
    check("{action: Count, onExitCodes: {operator: In, values: [42]}}", [0, 0, 42], &Meaning::Counts);
    check(fail_42, [3, 0, 1], &fails("init", 3, 0));
}

#[test]
fn a_sidecar_counts_only_where_it_is_named() {
    let rule = "{action: Ignore, onExitCodes: {operator: In, values: [143]}}";
    let named = "{action: Ignore, onExitCodes: {containerName: side, operator: In, values: [143]}}";
    check(rule, [0, 143, 1], &Meaning::Counts);
    check(named, [0, 143, 1], &Meaning::Ignored);
    check(
        "{action: Ignore, onExitCodes: {containerName: init, operator: In, values: [1]}}",
        [0, 0, 1],
        &Meaning::Counts,
    );
}

#[test]
fn conditions_match_by_type_and_status() {
    check("{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}", [0, 0, 137], &Meaning::Ignored);
    check("{action: Ignore, onPodConditions: [{type: Ready}, {type: X}]}", [0, 0, 137], &Meaning::Counts);
    let expected = Meaning::FailsJob("Pod default/p has condition Ready matching FailJob rule at index 0".into());
    check("{action: FailJob, onPodConditions: [{type: Ready, status: 'False'}]}", [0, 0, 1], &expected);
}

#[test]
fn a_policy_acts_on_the_job() {
    let mut job = Fixture::new(
        "backoffLimit: 0, podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [42]}}, \
         {action: FailJob, onExitCodes: {operator: In, values: [7]}}]}",
    );
    for _ in 0..3 {
        let pod = job.running().remove(0);
        job.end(&pod, 42);
        assert_eq!(job.counts(), "0/0/0", "an ignored failure does not count");
        assert!(job.running().is_empty(), "but it delays the next pod");
        job.pass(400);
    }
    let pod = job.running().remove(0);
    job.end(&pod, 7);
    assert_eq!(job.conditions(), "FailureTarget:PodFailurePolicy Failed:PodFailurePolicy");
    assert_eq!(job.counts(), "0/0/1");
}

#[test]
fn a_failure_can_settle_its_index() {
    let mut job = Fixture::new(
        "completions: 2, parallelism: 2, completionMode: Indexed, backoffLimitPerIndex: 9, \
         podFailurePolicy: {rules: [{action: FailIndex, onExitCodes: {operator: In, values: [42]}}]}",
    );
    job.end(&job.of_index(0), 42);
    assert_eq!(job.plan.status.failed_indexes.as_deref(), Some("0"));
    job.pass(1000);
    assert_eq!(job.indexes(), [1]);
}

#[test]
fn success_rules() {
    let rules = |text: &str| {
        spec(&format!("completions: 9, completionMode: Indexed, successPolicy: {{rules: [{text}]}}"))
            .success_policy
            .unwrap()
    };
    for (text, completed, expected) in [
        ("{succeededCount: 2}", "4", None),
        ("{succeededCount: 2}", "4,5", Some(0)),
        ("{succeededIndexes: 0-2}", "0,2", None),
        ("{succeededIndexes: 0-2}", "0-2,7", Some(0)),
        ("{succeededIndexes: 0-2, succeededCount: 1}", "7", None),
        ("{succeededIndexes: 0-2, succeededCount: 1}", "2", Some(0)),
        ("{succeededIndexes: '8'}, {succeededCount: 3}", "1-3", Some(1)),
    ] {
        assert_eq!(success(&rules(text), &completed.parse().unwrap()), expected, "{text} {completed}");
    }
}
