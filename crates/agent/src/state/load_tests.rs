use super::*;
use podwright_core::job::spec::JobSpec;
use podwright_core::job::state::JobState;
use podwright_core::manifest::{Format, Resource, read as read_manifest};
use podwright_core::objects::OwnerReference;

use super::super::state_file::STATE;
use crate::sources::wanted::Wanted;
use crate::status::Store;

fn clock(dir: &Path, boot: &str) -> Arc<Clock> {
    std::fs::write(dir.join("boot_id"), boot).unwrap();
    Arc::new(Clock::start(&dir.join("boot_id")).unwrap())
}

fn job(clock: &Clock) -> Kept<JobSpec> {
    let text = "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {template: {spec: {restartPolicy: Never, \
                containers: [{name: a, image: i}]}}}}";
    let object = match read_manifest(text, Format::Yaml).unwrap().remove(0) {
        Resource::Job(mut job) => {
            // Lines are of the text, and the text is not kept.
            Arc::make_mut(&mut job).line = None;
            job
        }
        other => panic!("{other:?}"),
    };
    let owner = OwnerReference { kind: Kind::CronJob, name: "c".into(), uid: "u".into() };
    Kept { wanted: Wanted::from_owner(owner, object), state: JobState::new(clock.now()) }
}

fn storage(dir: &Path, clock: &Arc<Clock>) -> Arc<Storage> {
    Storage::new(dir, "node-1", Store::new(clock.now()), Arc::clone(clock))
}

fn load_jobs(dir: &Path, clock: &Arc<Clock>) -> Loaded<JobSpec> {
    load((dir, &storage(dir, clock), clock), &Plain).unwrap()
}

#[tokio::test]
async fn a_job_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock(dir.path(), "a");
    let mut kept = job(&clock);
    let path = kept.directory(dir.path());
    kept.state.started_at = Some(clock.now());
    kept.state.serial = 7;
    kept.write(dir.path(), &clock).unwrap();
    assert_eq!(Kept::read(&path, &storage(dir.path(), &clock), &clock).unwrap(), kept);
    let loaded = load_jobs(dir.path(), &clock);
    assert_eq!((loaded.kept, loaded.unusable), (vec![kept], vec![]));
    forget(Kind::Job, &path);
    assert!(!path.exists());
}

#[tokio::test]
async fn after_a_reboot_with_a_clock_behind_nothing_is_in_the_future() {
    let dir = tempfile::tempdir().unwrap();
    let before = clock(dir.path(), "a");
    let mut kept = job(&before);
    kept.state.started_at = Some(before.now() + std::time::Duration::from_secs(1_000_000));
    let path = kept.directory(dir.path());
    kept.write(dir.path(), &before).unwrap();
    let after = clock(dir.path(), "b");
    let state = Kept::<JobSpec>::read(&path, &storage(dir.path(), &after), &after).unwrap().state;
    assert!(state.started_at.unwrap() <= after.now());
}

/// Whatever is in place of either file: the job is known, its name is, and nothing is touched.
#[tokio::test]
async fn what_cannot_be_used_keeps_its_name_and_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock(dir.path(), "a");
    let kept = job(&clock);
    let path = kept.directory(dir.path());
    kept.write(dir.path(), &clock).unwrap();
    for name in [OBJECT, STATE] {
        let file = path.join(name);
        let good = std::fs::read_to_string(&file).unwrap();
        let newer = good.replacen("\"version\":1", "\"version\":2", 1);
        let odd = good.replacen("\"version\":1", "\"version\":\"1\"", 1);
        let alien = "{\"version\": 2, \"all\": \"new\"}".to_owned();
        for text in ["", "{", "noise", "[]", "null", &good[..good.len() / 2], &newer, &odd, &alien] {
            std::fs::write(&file, text).unwrap();
            let loaded = load_jobs(dir.path(), &clock);
            assert_eq!(loaded.kept, [], "{name}: {text}");
            let [one] = &loaded.unusable[..] else { panic!("{name}: {text}") };
            assert_eq!(one.name, Some(("default".into(), "j".into())), "{name}: {text}");
            assert_eq!(one.owner.as_ref(), kept.owner());
            assert!(one.problem.starts_with(file.to_str().unwrap()) || one.problem.contains(name), "{}", one.problem);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "it is left as it is");
        }
        std::fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(load_jobs(dir.path(), &clock).unusable[0].problem.contains("is a fifo"));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(load_jobs(dir.path(), &clock).unusable[0].problem.contains("is a symbolic link"));
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, good).unwrap();
    }
    std::fs::remove_file(path.join(STATE)).unwrap();
    assert!(load_jobs(dir.path(), &clock).unusable[0].problem.contains("state.json is gone"));
    // Without its object as well it has lost that too.
    std::fs::remove_file(path.join(OBJECT)).unwrap();
    let [one] = &load_jobs(dir.path(), &clock).unusable[..] else { panic!("it is forgotten") };
    assert!(one.problem.contains("object.json is gone") && one.name.is_some(), "{}", one.problem);
    // Unless it was being accepted, or removed.
    Claimant::forget(&path).unwrap();
    assert_eq!(load_jobs(dir.path(), &clock).unusable, []);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_directory_of_another_object_is_not_taken_for_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock(dir.path(), "a");
    let kept = job(&clock);
    let path = kept.directory(dir.path());
    kept.write(dir.path(), &clock).unwrap();
    std::fs::rename(&path, path.with_file_name("00000000-0000-8000-8000-000000000000")).unwrap();
    let loaded = load_jobs(dir.path(), &clock);
    assert_eq!(loaded.kept, []);
    assert!(loaded.unusable[0].problem.contains("is of another object"), "{}", loaded.unusable[0].problem);
}
