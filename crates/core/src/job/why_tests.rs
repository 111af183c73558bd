//! Situations of jobs as data: what happened, and what has to be said about it.

use super::testing::Fixture;
use super::why::{Case, Failed, explain};
use crate::objects::Kind;
use crate::pod::why::tests::text_of;
use crate::pod::why::{Advice, Explanation, LastEnd, Situation};
use crate::time::Time;

/// A job, and what is known besides its state.
struct Story {
    job: Fixture,
    live: Vec<Explanation>,
    failed: Option<Failed>,
    refused: Option<(String, Time)>,
    cron: Option<&'static str>,
}

impl Story {
    fn new(fields: &str) -> Story {
        Story { job: Fixture::new(fields), live: Vec::new(), failed: None, refused: None, cron: None }
    }

    /// A pod runs, and this is told of it.
    fn told(mut self, name: &str, situation: Situation, said: &str) -> Story {
        let told = Explanation::new(Kind::Pod, ("default", name), situation, format!("default/{name}: {said}"));
        self.live.push(told);
        self
    }

    /// A pod ends with this exit code of its main.
    fn fails(mut self, name: &str, code: i32) -> Story {
        let end = self.job.end_of(code);
        let index = self.job.state.pods.values().find(|pod| pod.name == name).unwrap().index;
        let mut told =
            Explanation::new(Kind::Pod, ("default", name), Situation::Failed, format!("default/{name} failed"));
        let text = format!("run 0: it left with {code}");
        told.last_end = Some(LastEnd { pod: None, attempt: 0, text, asked: None, output: vec!["oops".into()] });
        told.container = Some("main".into());
        told.changes = vec!["the image: its bundle was replaced or edited (pod j-abcde, which ended 3 h ago)".into()];
        self.job.end_with(name, end.clone());
        self.failed = Some(Failed { name: name.to_owned(), index, end, told });
        self
    }

    fn pass(mut self, seconds: u64) -> Story {
        self.job.pass(seconds);
        self
    }

    #[track_caller]
    fn check(&self, situation: Situation, said: &[&str]) -> String {
        let told = explain(&Case {
            spec: &self.job.spec,
            state: &self.job.state,
            seen: &self.job.seen,
            live: &self.live,
            failed: self.failed.as_ref(),
            refused: self.refused.as_ref(),
            cron: self.cron,
            file: self.cron.is_none().then_some("/m/j.yaml"),
            file_problems: &[],
            now: self.job.now,
        });
        let text = text_of(&told);
        assert_eq!(told.situation, situation, "{text}");
        for part in said {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(text.lines().count() <= 30, "more than a screen:\n{text}");
        text
    }
}

#[test]
fn at_work() {
    let story = Story::new("completions: 8, parallelism: 2, completionMode: Indexed, activeDeadlineSeconds: 600");
    let pods = story.job.running();
    let mut story = story.pass(12).told(&pods[0], Situation::Running, "runs for 12 s");
    story.job.end(&pods[1], 0);
    let text = story.check(
        Situation::Running,
        &[
            "default/j is at work for 12 s: 2 pods at work, 1 of 8 done",
            "in 588 s (activeDeadlineSeconds: 600)".replace("588 s", "9 min").as_str(),
            "1 of 8 done (index 1); 0 failed of 6 that it bears (backoffLimit)",
            "index 0: runs for 12 s",
            "… and 1 more: podwright get pods -l job-name=j",
        ],
    );
    assert!(!text.contains("do:"), "{text}");
}

#[test]
fn a_failed_pod_is_told_with_its_last_words_and_the_back_off() {
    let story = Story::new("backoffLimit: 2");
    let pod = story.job.running().remove(0);
    let story = story.fails(&pod, 3).pass(4);
    story.check(
        Situation::BackOff,
        &[
            "default/j has no pod at work: the next pod is made at",
            "in 6 s: back-off after 1 failure in a row",
            &format!("the last pod that failed: {pod}, 4 s ago; it counts"),
            "run 0: it left with 3",
            "| oops",
            "changed: the image: its bundle was replaced or edited (pod j-abcde",
            "0 of 1 done; 1 failed of 2 that it bears (backoffLimit)",
            &format!("podwright logs {pod} -c main"),
            &format!("podwright why {pod}"),
        ],
    );
}

#[test]
fn how_it_ended() {
    let story = Story::new("backoffLimit: 0");
    let pod = story.job.running().remove(0);
    let mut story = story.fails(&pod, 3).pass(60);
    story.check(
        Situation::Failed,
        &[
            "default/j failed after 0 s, 60 s ago: 1 pod failed, and it bears 0 (backoffLimit)",
            "BackoffLimitExceeded: Job has reached the specified backoff limit",
            "to run it again, take its file away and put it back: /m/j.yaml",
        ],
    );
    story.cron = Some("nightly");
    story.check(Situation::Failed, &["podwright create job j-again --from=cronjob/nightly"]);

    let story = Story::new("activeDeadlineSeconds: 5, ttlSecondsAfterFinished: 100").pass(5);
    let pod = story.job.state.pods.values().next().unwrap().name.clone();
    story.check(
        Situation::Stopping,
        &["has failed, and is over when its pods have stopped: its activeDeadlineSeconds (5) were over", &pod],
    );
    let story = story.fails(&pod, 143).pass(10);
    story.check(
        Situation::DeadlineExceeded,
        &[
            "took too long, and failed after 5 s",
            "in 90 s (ttlSecondsAfterFinished: 100)",
            "spec.activeDeadlineSeconds",
        ],
    );

    let story = Story::new("");
    let pod = story.job.running().remove(0);
    let mut story = story.fails(&pod, 1).pass(20);
    let pod = story.job.running().remove(0);
    story.job.end(&pod, 0);
    let text = story.check(Situation::Succeeded, &["is complete after 20 s, 0 s ago: 1 of 1 done"]);
    assert!(!text.contains("failed:"), "what failed before is over: {text}");
}

#[test]
fn the_rule_that_decided() {
    let rules = "podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [42]}}, \
                 {action: FailJob, onExitCodes: {containerName: main, operator: In, values: [7]}}, \
                 {action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}";
    for (code, said) in [
        (42, "that does not count\n  by podFailurePolicy.rules[0] (Ignore): Container main failed with exit code 42"),
        (1, "no rule of podFailurePolicy is about that, so it counts"),
        (7, "that fails the job\n  by podFailurePolicy.rules[1] (FailJob): Container main failed with exit code 7"),
    ] {
        let story = Story::new(rules);
        let pod = story.job.running().remove(0);
        let situation = if code == 7 { Situation::Failed } else { Situation::BackOff };
        story.fails(&pod, code).check(situation, &[said]);
    }
}

#[test]
fn indexes_have_their_own_back_off_and_end() {
    let story = Story::new("completions: 3, parallelism: 3, completionMode: Indexed, backoffLimitPerIndex: 1");
    let (first, second, third) = (story.job.of_index(0), story.job.of_index(1), story.job.of_index(2));
    let mut story = story.fails(&first, 1);
    story.job.end(&second, 0);
    let story = story.told(&third, Situation::Running, "runs");
    story.check(
        Situation::Running,
        &["index 0 is tried again at", "in 10 s: back-off after 1 failure", "index 0: 1 failed of 1 that it bears"],
    );
    let story = story.pass(10);
    let again = story.job.of_index(0);
    let mut story = story.fails(&again, 2);
    story.live.clear();
    story.job.end(&third, 0);
    story.check(
        Situation::Failed,
        &[
            "index 0 failed for good (backoffLimitPerIndex), the others are done",
            "(index 0)",
            "2 of 3 done (indexes 1,2)",
        ],
    );
}

#[test]
fn what_else_it_waits_for() {
    Story::new("suspend: true").pass(70).check(
        Situation::Suspended,
        &["default/j is suspended for 70 s (spec.suspend)", "to let it go on: spec.suspend: false"],
    );
    Story::new("parallelism: 0").check(Situation::Waiting, &["none is wanted (spec.parallelism: 0)"]);

    let mut story = Story::new("podReplacementPolicy: Failed");
    let pod = story.job.running().remove(0);
    let deleting = super::state::PodSeen::Live { ready: true, restarts: 0, deleting: true };
    story.job.seen.insert(pod.clone(), deleting);
    story.job.decide();
    story.check(
        Situation::Waiting,
        &[
            &format!("it waits for {pod} to end before it makes another (podReplacementPolicy: Failed)"),
            &format!("what that pod still does: podwright why {pod}"),
        ],
    );

    let mut story = Story::new("");
    story.refused =
        Some(("Error creating: pods \"x\" already exists".into(), story.job.now + std::time::Duration::from_secs(5)));
    story.job.seen.clear();
    story.check(Situation::Running, &["a pod could not be made (Error creating: pods \"x\" already exists)", "in 5 s"]);

    let mut story = Story::new("");
    story.job.state.removal_at = Some(story.job.now);
    story.job.decide();
    let pod = story.job.state.pods.values().next().unwrap().name.clone();
    story.check(Situation::Stopping, &["is being removed", &format!("these stop first: {pod}")]);
}

#[test]
fn a_pod_in_trouble_is_the_jobs_trouble() {
    let story = Story::new("completions: 2, completionMode: Indexed");
    let pod = story.job.running().remove(0);
    let mut story = story.told(&pod, Situation::ImageUnavailable, "main main cannot be started: ErrImagePull");
    story.live[0].details.push("no bundle \"i\"".into());
    story.live[0].advice = vec![Advice { text: "field".into(), with: Some("spec.containers[main].image".into()) }];
    story.check(
        Situation::ImageUnavailable,
        &[
            &format!("default/j is held up by its pod {pod} (index 0): main main cannot be started: ErrImagePull"),
            "no bundle \"i\"",
            "field: spec.containers[main].image",
            &format!("more of that pod: podwright why {pod}"),
        ],
    );
}
