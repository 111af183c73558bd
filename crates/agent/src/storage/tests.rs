use super::*;
use std::fs;
use std::sync::mpsc;

/// A storage below `DIR/s`, over a file in place of that directory as long as writes have to fail.
struct Bed {
    dir: tempfile::TempDir,
    store: Store,
    storage: Arc<Storage>,
}

impl Bed {
    fn new() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("boot_id"), "b").unwrap();
        let clock = Arc::new(Clock::start(&dir.path().join("boot_id")).unwrap());
        let store = Store::new(clock.now());
        let storage = Storage::new(&dir.path().join("s"), "node-1", store.clone(), clock);
        Bed { dir, store, storage }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("s").join(name)
    }

    fn fail(&self) {
        fs::write(self.dir.path().join("s"), "not a directory").unwrap();
    }

    fn mend(&self) {
        fs::remove_file(self.dir.path().join("s")).unwrap();
    }

    fn keep(&self, name: &str, text: &str) -> mpsc::Receiver<bool> {
        let (sender, receiver) = mpsc::channel();
        let listener: Listener = Box::new(move |result| sender.send(result.is_ok()).unwrap_or(()));
        self.storage.keep(&self.path(name), text.as_bytes().to_vec(), Durability::Rename, Some(listener));
        receiver
    }

    fn condition(&self, name: &str) -> String {
        let node = self.store.node();
        let condition = node.conditions.iter().find(|c| c["type"] == name).unwrap();
        condition["status"].as_str().unwrap().to_owned()
    }

    fn events(&self) -> Vec<String> {
        let events = self.store.events(Time(0)).items;
        let reason = |text: &str| {
            let event: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(event["involvedObject"]["kind"], "Node");
            event["reason"].as_str().unwrap().to_owned()
        };
        events.iter().map(|(_, object)| reason(object)).collect()
    }
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(Errno::ENOSPC as i32)
}

use nix::errno::Errno;

#[tokio::test]
async fn what_could_not_be_written_is_read_back_and_written_when_it_can_be() {
    let bed = Bed::new();
    bed.fail();
    let old = bed.keep("p/pod.json", "old");
    bed.storage.settle().await;
    let new = bed.keep("p/pod.json", "new");
    bed.storage.settle().await;
    assert_eq!(bed.storage.read(&bed.path("p/pod.json")).unwrap(), b"new", "told outranks the disk");
    assert_eq!(bed.condition("IOError"), "True");
    assert_eq!(bed.storage.below(&bed.path("p")).len(), 1);
    assert!(bed.storage.below(&bed.path("q")).is_empty());
    bed.mend();
    while !bed.storage.waiting(&bed.path("")).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fs::read(bed.path("p/pod.json")).unwrap(), b"new");
    assert_eq!(bed.condition("IOError"), "False");
    assert_eq!((old.iter().last(), new.iter().last()), (Some(true), Some(true)), "who waited is told");
    assert_eq!(bed.events(), ["WritesFail", "WritesSucceed"]);
}

#[tokio::test]
async fn the_newest_version_is_on_disk_in_the_end() {
    let bed = Bed::new();
    for n in 0..20 {
        bed.keep("r", &n.to_string());
    }
    bed.storage.settle().await;
    assert_eq!(fs::read(bed.path("r")).unwrap(), b"19");
    assert!(bed.events().is_empty());
}

#[tokio::test]
async fn what_is_forgotten_is_written_no_more_and_complained_of_no_more() {
    let bed = Bed::new();
    bed.fail();
    bed.keep("p/pod.json", "x");
    bed.storage.settle().await;
    bed.storage.forget(&bed.path("p")).await;
    assert_eq!(bed.condition("IOError"), "False");
    bed.mend();
    tokio::time::sleep(FIRST_PAUSE * 3).await;
    assert!(!bed.path("p").exists());
}

#[tokio::test]
async fn a_condition_holds_as_long_as_one_file_fails_by_it() {
    let bed = Bed::new();
    bed.storage.report(&bed.path("a"), Some(&enospc()));
    bed.storage.report(&bed.path("b"), Some(&enospc()));
    bed.storage.report(&bed.path("c"), Some(&io::Error::from_raw_os_error(Errno::EROFS as i32)));
    bed.storage.report(&bed.path("a"), None);
    assert_eq!(
        ["DiskPressure", "ReadonlyFilesystem", "IOError"].map(|name| bed.condition(name)),
        ["True", "True", "False"]
    );
    bed.storage.report(&bed.path("b"), Some(&io::Error::from_raw_os_error(Errno::EIO as i32)));
    assert_eq!(["DiskPressure", "IOError"].map(|name| bed.condition(name)), ["False", "True"]);
    let wrapped = durable::WriteError { path: bed.path("c"), step: "write", source: enospc() };
    bed.storage.report(&bed.path("c"), Some(&wrapped));
    assert_eq!(["DiskPressure", "ReadonlyFilesystem"].map(|name| bed.condition(name)), ["True", "False"]);
    let seen = bed.events();
    assert!(
        seen.contains(&"NodeHasDiskPressure".to_owned()) && seen.contains(&"NodeHasNoDiskPressure".to_owned()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn who_waits_goes_on_when_somebody_gets_through() {
    let bed = Bed::new();
    bed.storage.report(&bed.path("a"), Some(&enospc()));
    let begun = tokio::time::Instant::now();
    let storage = Arc::clone(&bed.storage);
    let waits = tokio::spawn(async move { storage.pause(8).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    bed.storage.report(&bed.path("a"), None);
    waits.await.unwrap();
    assert!(begun.elapsed() < LONGEST_PAUSE);
}

#[tokio::test]
async fn who_removes_something_is_waited_for_by_nobody_else() {
    let bed = Bed::new();
    let (storage, at) = (Arc::clone(&bed.storage), bed.path("huge"));
    let turn = bed.storage.removal(&at);
    drop(bed.storage.removal(&bed.path("other")));
    let (sender, taken) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let _turn = storage.removal(&at);
        sender.send(()).unwrap();
    });
    assert!(taken.recv_timeout(Duration::from_millis(300)).is_err(), "the control: the same path is waited for");
    drop(turn);
    taken.recv_timeout(Duration::from_secs(10)).unwrap();
    waiting.join().unwrap();
}
