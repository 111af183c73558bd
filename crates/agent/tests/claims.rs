//! State that a newer podwright wrote, that is damaged or no file at all: what was done is not done again, nothing of it is touched,
//! and a user decides. And a pod whose sandbox's file is damaged: it goes on. Needs what `daemon.rs` needs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use podwright_sys::cgroup::Cgroup;
use serde_json::Value;

use node::Node;

mod node;

/// A container that leaves a line in OUT/NAME with each of its runs.
fn container(node: &Node, name: &str, then: &str) -> String {
    let out = node.path("out");
    fs::create_dir_all(&out).unwrap();
    format!(
        "{{restartPolicy: Never, terminationGracePeriodSeconds: 1, volumes: [{{name: out, hostPath: {{path: {}}}}}], containers: [\
         {{name: app, image: box, args: ['echo ran >>/data/{name}; {then}'], env: [{{name: PATH, value: /bin}}], \
         volumeMounts: [{{name: out, mountPath: /data}}]}}]}}",
        out.display()
    )
}

fn pod(node: &Node, name: &str, then: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {}\n", container(node, name, then))
}

fn job(node: &Node, name: &str, then: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{backoffLimit: 0, template: {{spec: {}}}}}\n",
        container(node, name, then)
    )
}

fn cron(node: &Node, name: &str) -> String {
    let template = container(node, name, "exit 0");
    format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: {name}}}\nspec: {{schedule: '0 0 1 1 *', jobTemplate: {{spec: \
         {{template: {{spec: {template}}}}}}}}}\n"
    )
}

const FOREVER: &str = "while :; do busybox sleep 1; done";

fn runs(node: &Node, name: &str) -> usize {
    fs::read_to_string(node.path("out").join(name)).unwrap_or_default().lines().count()
}

fn object(node: &Node, what: &str) -> Value {
    serde_json::from_slice(&node.podwright(&["get", what, "-o", "json"]).stdout).unwrap_or(Value::Null)
}

/// The directory of the object of that name.
fn state(node: &Node, folder: &str, name: &str) -> PathBuf {
    let mut found = fs::read_dir(node.path("state").join(folder)).unwrap().flatten().map(|entry| entry.path());
    let has_it = |directory: &PathBuf| {
        let who = fs::read_to_string(directory.join("identity.json")).unwrap_or_default();
        who.contains(&format!("\"name\":\"{name}\""))
    };
    found.find(has_it).unwrap_or_else(|| panic!("{folder} has no {name}"))
}

fn complete(node: &Node, job: &str) -> bool {
    let job = object(node, &format!("job/{job}"));
    job["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Complete")
}

fn files_say(node: &Node, text: &str) -> bool {
    node.ok(&["get", "files", "-o", "json"]).contains(text)
}

/// What can be in place of a file, and what is said of it.
const DAMAGES: [(&str, &str); 7] = [
    ("newer", "has version 2"),
    ("noise", "is damaged"),
    ("empty", "is damaged"),
    ("half", "is damaged"),
    ("fifo", "is a fifo"),
    ("directory", "is a directory"),
    ("link", "is a symbolic link"),
];

fn damage(file: &Path, how: &str) {
    let good = fs::read_to_string(file).unwrap();
    fs::remove_file(file).unwrap();
    match how {
        "newer" => fs::write(file, good.replacen("\"version\":1", "\"version\":2", 1)).unwrap(),
        "noise" => fs::write(file, "\u{1}\u{2}noise").unwrap(),
        "empty" => fs::write(file, "").unwrap(),
        "half" => fs::write(file, &good[..good.len() / 2]).unwrap(),
        "fifo" => nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "directory" => fs::create_dir(file).unwrap(),
        _ => symlink("/dev/zero", file).unwrap(),
    }
}

/// What stands at a path, without opening it.
fn look(file: &Path) -> (String, Vec<u8>) {
    let found = fs::symlink_metadata(file).unwrap();
    let text = if found.is_file() { fs::read(file).unwrap() } else { Vec::new() };
    (format!("{:?}", found.file_type()), text)
}

fn restore(file: &Path, text: &[u8]) {
    if file.is_dir() && !file.is_symlink() {
        fs::remove_dir(file).unwrap()
    } else {
        fs::remove_file(file).unwrap()
    }
    fs::write(file, text).unwrap();
}

#[test]
fn finished_work_is_not_done_again_whatever_became_of_its_state() {
    let mut node = Node::new();
    let texts = [
        ("done.yaml", pod(&node, "done", "exit 6")),
        ("work.yaml", job(&node, "work", "exit 0")),
        ("cron.yaml", cron(&node, "yearly")),
    ];
    node.start(&[]);
    for (file, text) in &texts {
        node.write(file, text);
    }
    node.until_phase("done", "Failed");
    node.until("the job is complete", || complete(&node, "work"));
    node.until("the cron job is there", || !object(&node, "cronjob/yearly").is_null());
    let files = [
        ("pod/done", state(&node, "pods", "done").join("object.json")),
        ("job/work", state(&node, "jobs", "work").join("object.json")),
        ("job/work", state(&node, "jobs", "work").join("state.json")),
        ("cronjob/yearly", state(&node, "cronjobs", "yearly").join("object.json")),
        ("cronjob/yearly", state(&node, "cronjobs", "yearly").join("state.json")),
    ];
    for (round, (how, said)) in DAMAGES.iter().enumerate() {
        // Of two files of one object, each in turn.
        let chosen: Vec<_> =
            files.iter().enumerate().filter(|(n, _)| *n == 0 || (n + round) % 2 == 0).map(|(_, f)| f).collect();
        node.kill();
        let good: Vec<Vec<u8>> = chosen.iter().map(|(_, file)| fs::read(file).unwrap()).collect();
        chosen.iter().for_each(|(_, file)| damage(file, how));
        let before: Vec<_> = chosen.iter().map(|(_, file)| look(file)).collect();
        node.start(&[]);
        for (file, text) in &texts {
            // Written anew: what is wanted changes in place only.
            node.write(file, &format!("# round {round}\n{text}"));
        }
        for (what, file) in &chosen {
            let said = format!("{} ", file.display()) + said;
            node.until(&format!("{how}: the files say it of {what}"), || files_say(&node, &said));
            let shown = object(&node, what);
            assert!(shown["status"].to_string().contains("StateUnusable"), "{how} {what}: {shown}");
            for command in ["get", "describe", "why"] {
                let text = node.ok(&[command, what]);
                let word = if command == "why" { "cannot be used" } else { "StateUnusable" };
                assert!(text.contains(word), "{how} {command} {what}: {text}");
            }
            assert!(node.ok(&["why", what]).contains("podwright delete"));
            assert!(node.ok(&["get", "events"]).contains("StateUnusable"));
        }
        assert_eq!((runs(&node, "done"), runs(&node, "work")), (1, 1), "{how}");
        let after: Vec<_> = chosen.iter().map(|(_, file)| look(file)).collect();
        assert_eq!(before, after, "{how}: nothing is written over");
        let refused = node.podwright(&["restart", "done"]);
        assert!(!refused.status.success(), "{how}: not before a user decides");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("podwright delete pod done"), "{how}");
        // The podwright that can read it goes on from there.
        node.kill();
        chosen.iter().zip(&good).for_each(|((_, file), text)| restore(file, text));
        node.start(&[]);
        assert_eq!(node.phase("done"), "Failed", "{how}");
        assert!(complete(&node, "work"), "{how}");
    }
    assert_eq!((runs(&node, "done"), runs(&node, "work")), (1, 1));
}

#[test]
fn a_user_discards_what_cannot_be_used_and_then_it_runs_anew() {
    let mut node = Node::new();
    let (done, work) = (pod(&node, "done", "exit 6"), job(&node, "work", "exit 0"));
    node.start(&[]);
    node.write("done.yaml", &done);
    node.write("work.yaml", &work);
    node.until_phase("done", "Failed");
    node.until("the job is complete", || complete(&node, "work"));
    let (pod_file, job_file) =
        (state(&node, "pods", "done").join("object.json"), state(&node, "jobs", "work").join("state.json"));
    node.kill();
    damage(&pod_file, "directory");
    damage(&job_file, "newer");
    node.start(&[]);
    node.until("they are held back", || {
        files_say(&node, "pod default/done is held back") && files_say(&node, "job default/work is held back")
    });
    for what in ["pod", "job"] {
        let said = node.ok(&["delete", what, if what == "pod" { "done" } else { "work" }]);
        assert!(said.contains("stays away until that file changes"), "{said}");
    }
    assert_eq!(node.phase("done"), "absent");
    assert!(object(&node, "job/work").is_null());
    assert!(files_say(&node, "pod default/done was deleted") && !files_say(&node, "is held back"));
    // That survives the agent.
    node.kill();
    node.start(&[]);
    node.until("the files are read", || files_say(&node, "job default/work was deleted"));
    assert_eq!((runs(&node, "done"), runs(&node, "work")), (1, 1));
    node.write("done.yaml", &format!("# again\n{done}"));
    node.write("work.yaml", &format!("# again\n{work}"));
    node.until("both ran anew", || (runs(&node, "done"), runs(&node, "work")) == (2, 2));
    node.until_phase("done", "Failed");
    node.until("the job is complete", || complete(&node, "work"));
}

/// Whoever removes the object's file alone has not removed the object.
#[test]
fn a_file_that_is_gone_gives_no_name_free() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("done.yaml", &pod(&node, "done", "exit 6"));
    node.write("work.yaml", &job(&node, "work", "exit 0"));
    node.write("web.yaml", &pod(&node, "web", FOREVER));
    node.until_phase("done", "Failed");
    node.until("the job is complete", || complete(&node, "work"));
    node.until("it runs", || runs(&node, "web") == 1);
    node.kill();
    for (folder, name, file) in
        [("pods", "done", "object.json"), ("jobs", "work", "object.json"), ("pods", "web", "object.json")]
    {
        fs::remove_file(state(&node, folder, name).join(file)).unwrap();
    }
    node.start(&[]);
    for name in ["pod default/done", "job default/work", "pod default/web"] {
        node.until("it is held back", || files_say(&node, &format!("{name} is held back")));
    }
    assert!(files_say(&node, "object.json is gone") && files_say(&node, "object.json is gone"));
    assert!(node.ok(&["why", "web"]).contains("its processes go on"));
    assert_eq!(["done", "work", "web"].map(|name| runs(&node, name)), [1, 1, 1]);
    // The control: what is removed as a whole gives its name free, and so does what a user discards.
    node.kill();
    let directory = state(&node, "jobs", "work");
    fs::remove_dir_all(directory).unwrap();
    node.start(&[]);
    node.until("it runs anew", || runs(&node, "work") == 2);
    node.ok(&["delete", "pod", "done"]);
    node.write("done.yaml", &format!("# again\n{}", pod(&node, "done", "exit 6")));
    node.until("it runs anew", || runs(&node, "done") == 2);
    assert_eq!(runs(&node, "web"), 1);
    node.ok(&["delete", "pod", "web"]);
}

/// What runs goes on: neither killed as a stray, nor made anew; its job neither counts it nor makes another.
#[test]
fn what_runs_goes_on_without_its_state() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("web.yaml", &pod(&node, "web", FOREVER));
    node.write("work.yaml", &job(&node, "work", FOREVER));
    node.until_phase("web", "Running");
    node.until("the job's pod runs", || runs(&node, "work") == 1);
    let pods: Value = object(&node, "pods");
    let of_job = pods["items"].as_array().unwrap().iter().find(|pod| pod["metadata"]["name"] != "web").unwrap();
    let of_job = of_job["metadata"]["name"].as_str().unwrap().to_owned();
    node.until_phase(&of_job, "Running");
    let (web, pod_of_job) = (state(&node, "pods", "web"), state(&node, "pods", &of_job));
    // The shim, which is the parent of all else.
    let root = node.cgroup.path().join("besteffort");
    let procs = |directory: &Path| {
        let uid = directory.file_name().unwrap().to_str().unwrap();
        let supervisor = Cgroup::at(root.join(format!("pod{uid}"))).child("_supervisor");
        supervisor.procs().unwrap_or_default().first().copied()
    };
    let before = (procs(&web), procs(&pod_of_job));
    assert!(before.0.is_some() && before.1.is_some());

    node.kill();
    let good = [&web, &pod_of_job].map(|directory| fs::read(directory.join("object.json")).unwrap());
    damage(&web.join("object.json"), "half");
    // Nothing else tells its name.
    damage(&pod_of_job.join("object.json"), "noise");
    node.start(&[]);
    node.until("it is held back", || files_say(&node, "pod default/web is held back"));
    for name in ["web", of_job.as_str()] {
        assert_eq!(node.pod(name)["status"]["reason"], "StateUnusable", "{name}");
        let why = node.ok(&["why", name]);
        assert!(why.contains("its processes go on"), "{why}");
    }
    assert_eq!(object(&node, "job/work")["status"]["active"], 1);
    assert_eq!(object(&node, "pods")["items"].as_array().unwrap().len(), 2, "the job makes no other");
    assert_eq!((procs(&web), procs(&pod_of_job)), before);

    // The state of the job instead: its pod is no orphan.
    node.kill();
    fs::write(web.join("object.json"), &good[0]).unwrap();
    fs::write(pod_of_job.join("object.json"), &good[1]).unwrap();
    let job_state = state(&node, "jobs", "work").join("state.json");
    let good = fs::read(&job_state).unwrap();
    damage(&job_state, "newer");
    node.start(&[]);
    node.until("it is held back", || files_say(&node, "job default/work is held back"));
    assert_eq!((node.phase("web"), node.phase(&of_job)), ("Running".to_owned(), "Running".to_owned()));
    node.kill();
    fs::write(&job_state, good).unwrap();
    node.start(&[]);
    assert_eq!((procs(&web), procs(&pod_of_job)), before);
    assert_eq!((runs(&node, "web"), runs(&node, "work")), (1, 1));

    // Discarded, its processes go, and its job counts it as one that was deleted by hand.
    node.kill();
    damage(&web.join("object.json"), "noise");
    damage(&pod_of_job.join("object.json"), "noise");
    node.start(&[]);
    node.ok(&["delete", "pod", "web"]);
    node.ok(&["delete", "pod", &of_job]);
    assert_eq!((procs(&web), procs(&pod_of_job)), (None, None));
    node.until("the job has failed", || object(&node, "job/work")["status"]["failed"] == 1);
    assert_eq!((runs(&node, "web"), runs(&node, "work")), (1, 1));
}

/// Neither file tells its name any more: the manifest of the same uid does.
#[test]
fn without_a_name_the_uid_is_claimed() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("done.yaml", &job(&node, "done", "exit 0"));
    node.until("the job is complete", || complete(&node, "done"));
    let directory = state(&node, "jobs", "done");
    node.kill();
    damage(&directory.join("object.json"), "noise");
    damage(&directory.join("identity.json"), "noise");
    fs::rename(node.path("manifests/done.yaml"), node.path("done.yaml")).unwrap();
    node.start(&[]);
    let uid = directory.file_name().unwrap().to_str().unwrap();
    assert!(node.ok(&["why", &format!("job/{uid}")]).contains("cannot be used"));
    fs::rename(node.path("done.yaml"), node.path("manifests/done.yaml")).unwrap();
    node.until("it is held back", || files_say(&node, "job default/done is held back"));
    assert!(object(&node, &format!("job/{uid}")).is_null());
    assert!(object(&node, "job/done")["status"].to_string().contains("StateUnusable"));
    assert_eq!(runs(&node, "done"), 1);
}

#[test]
fn a_pod_whose_sandbox_file_is_damaged_or_gone_goes_on() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("web.yaml", &pod(&node, "web", FOREVER));
    node.until_phase("web", "Running");
    let uid = node.pod("web")["metadata"]["uid"].as_str().unwrap().to_owned();
    let file = node.path("run/pods").join(&uid).join("sandbox.json");
    let good: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let before = node.pod("web");
    for how in ["gone", "noise", "empty", "half", "fifo", "directory", "link"] {
        node.kill();
        if how == "gone" {
            fs::remove_file(&file).unwrap()
        } else {
            damage(&file, how)
        }
        node.start(&[]);
        let after = node.pod("web");
        for path in ["/status/containerStatuses/0", "/status/startTime", "/status/phase"] {
            assert_eq!(before.pointer(path), after.pointer(path), "{how}: {path}");
        }
        assert!(node.ok(&["get", "events"]).contains("SandboxTakenOver"), "{how}");
        let written: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(written, good, "{how}: the file is written anew");
    }
    // One that would have others killed is not believed.
    node.kill();
    let mut foreign = good.clone();
    foreign["cgroup"] = "/sys/fs/cgroup/elsewhere".into();
    fs::write(&file, foreign.to_string()).unwrap();
    node.start(&[]);
    assert_eq!(node.phase("web"), "Running");
    assert_eq!(runs(&node, "web"), 1);
    // Without its socket nobody can talk to it: it is begun anew, and that is said.
    node.kill();
    fs::remove_file(&file).unwrap();
    fs::remove_file(file.with_file_name("shim.sock")).unwrap();
    node.start(&[]);
    node.until("it is said", || node.ok(&["get", "events"]).contains("SandboxNotTakenOver"));
}

/// What it has run stands in its records: without them a pod that is not over would begin from the start.
#[test]
fn a_pod_whose_records_cannot_be_used_does_not_begin_from_the_start() {
    let mut node = Node::new();
    node.start(&[]);
    node.write("web.yaml", &pod(&node, "web", FOREVER));
    node.until_phase("web", "Running");
    let record = state(&node, "pods", "web").join("records/app/0.json");
    node.kill();
    let good = fs::read(&record).unwrap();
    damage(&record, "newer");
    node.start(&[]);
    let shown = node.pod("web");
    assert!(shown["status"]["message"].to_string().contains("records/app/0.json has version 2"), "{shown}");
    node.kill();
    fs::write(&record, good).unwrap();
    node.start(&[]);
    assert_eq!(node.phase("web"), "Running");
    assert_eq!(runs(&node, "web"), 1);
}
