//! File systems that nobody serves: real FUSE mounts, in a mount namespace of each test's own. Whatever a test leaves hanging in one
//! ends with it, since the kernel ends all calls when the server's descriptor is closed.

mod node;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use node::Node;

/// A FUSE mount. Its server takes requests, so that not even SIGKILL ends whoever waits for an answer, and answers only once it is
/// told to; then it has one file, `x.yaml`.
struct Hanging {
    at: PathBuf,
    /// Dropped: answer.
    silence: Option<Sender<()>>,
    server: Option<std::thread::JoinHandle<()>>,
}

impl Hanging {
    /// In a mount namespace that the calling thread does not share with others.
    fn mount(at: &Path, content: &str) -> Hanging {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
        fs::create_dir_all(at).unwrap();
        let mut fuse = OpenOptions::new();
        fuse.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK);
        let device = fuse.open("/dev/fuse").expect("this kernel has FUSE");
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("hanging"), at, Some("fuse"), MsFlags::empty(), Some(data.as_str())).unwrap();
        let (silence, told) = channel();
        let content = content.to_owned();
        let server = std::thread::spawn(move || serve(device, &told, content.as_bytes()));
        Hanging { at: at.to_owned(), silence: Some(silence), server: Some(server) }
    }

    /// Everything that hangs gets its answer, and so does whatever comes.
    fn answer(&mut self) {
        self.silence = None;
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.silence = None;
        // Ends the connection: every call fails, and the server sees its end. EBUSY: somebody still holds the mount.
        let _busy = umount2(&self.at, MntFlags::MNT_FORCE);
        let _busy = umount2(&self.at, MntFlags::MNT_DETACH);
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

/// Takes requests (linux/fuse.h) until the mount is gone. INIT is answered at once, everything else when `told` is.
fn serve(mut device: File, told: &Receiver<()>, content: &[u8]) {
    const INIT: u64 = 26;
    const FORGET: u64 = 2;
    let mut buffer = vec![0; 1 << 18];
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut silent = true;
    loop {
        match device.read(&mut buffer) {
            Ok(length) => {
                let request = buffer[..length].to_vec();
                match number(&request, 4, 4) {
                    FORGET => {}
                    INIT => reply(&mut device, &request, content),
                    _ if silent => held.push(request),
                    _ => reply(&mut device, &request, content),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2))
            }
            // A request was withdrawn.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {}
            // ENODEV: unmounted or aborted.
            Err(_) => return,
        }
        if silent && matches!(told.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
            silent = false;
            for request in held.drain(..) {
                reply(&mut device, &request, content);
            }
        }
    }
}

/// A pod that runs until it is told to stop.
fn sleeper(name: &str, extra: &str) -> String {
    let script = "trap 'exit 0' TERM; while :; do busybox sleep 1 & wait $!; done";
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 5\n{extra}  \
         containers:\n  - {{name: app, image: box, args: [\"{script}\"], env: [{{name: PATH, value: /bin}}]}}\n"
    )
}

/// A little-endian number in a request.
fn number(request: &[u8], at: usize, length: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..length].copy_from_slice(&request[at..at + length]);
    u64::from_le_bytes(bytes)
}

fn reply(device: &mut File, request: &[u8], content: &[u8]) {
    let (operation, node) = (number(request, 4, 4), number(request, 16, 8));
    let name = |after: usize| request[40 + after..].split(|byte| *byte == 0).next().unwrap_or_default();
    let mut out = Vec::new();
    let error: i32 = match operation {
        // INIT: version 7.31, and sizes.
        26 => {
            for number in [7_u32, 31, 0, 0, 0, 4096, 1, 1] {
                out.extend(number.to_le_bytes());
            }
            out.resize(64, 0);
            0
        }
        // LOOKUP.
        1 if node == 1 && name(0) == b"x.yaml" => {
            for number in [2_u64, 0, 0, 0, 0] {
                out.extend(number.to_le_bytes());
            }
            attributes(&mut out, 2, content);
            0
        }
        1 => nix::libc::ENOENT,
        // GETATTR.
        3 => {
            out.extend([0; 16]);
            attributes(&mut out, node, content);
            0
        }
        // OPEN, OPENDIR.
        14 | 27 => {
            out.extend([0; 16]);
            0
        }
        // READ.
        15 => {
            let (offset, length) = (number(request, 48, 8) as usize, number(request, 56, 4) as usize);
            let rest = content.get(offset..).unwrap_or_default();
            out.extend(&rest[..rest.len().min(length)]);
            0
        }
        // RELEASE, FLUSH, RELEASEDIR.
        18 | 25 | 29 => 0,
        _ => nix::libc::ENOSYS,
    };
    let mut message = Vec::new();
    message.extend(u32::try_from(16 + out.len()).unwrap().to_le_bytes());
    message.extend((-error).to_le_bytes());
    message.extend(&request[8..16]);
    message.extend(out);
    // ENOENT: whoever asked has gone.
    drop(device.write(&message));
}

fn attributes(out: &mut Vec<u8>, node: u64, content: &[u8]) {
    let (mode, size) = if node == 1 { (0o040_755, 0) } else { (0o100_644, content.len() as u64) };
    for number in [node, size, 1, 1, 1, 1] {
        out.extend(number.to_le_bytes());
    }
    for number in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32] {
        out.extend(number.to_le_bytes());
    }
}

/// How many of the agent's threads have this name.
fn threads(node: &Node, name: &str) -> usize {
    let tasks = format!("/proc/{}/task", node.agent.as_ref().unwrap().id());
    let names =
        fs::read_dir(tasks).unwrap().flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

fn health(node: &Node) -> String {
    let mut stream = UnixStream::connect(node.path("run/podwright.sock")).unwrap();
    stream.write_all(b"GET /healthz?verbose HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn waiting(node: &Node, pod: &str) -> String {
    node.pod(pod)["status"]["containerStatuses"][0]["state"]["waiting"].to_string()
}

/// What inotify does not see is seen soon.
const QUICK: [&str; 2] = ["--file-check-frequency", "100ms"];

#[test]
fn a_link_that_hangs_holds_up_no_other_file_is_told_of_and_is_read_when_it_answers() {
    let mut node = Node::new();
    let mut hanging = Hanging::mount(&node.path("dead"), &sleeper("late", ""));
    symlink(hanging.at.join("x.yaml"), node.path("manifests/a.yaml")).unwrap();
    symlink(hanging.at.join("y.yaml"), node.path("manifests/b.yaml")).unwrap();
    node.write("c.yaml", &sleeper("beside", ""));
    node.start(&QUICK);
    node.until_phase("beside", "Running");
    node.write("d.yaml", &sleeper("after", ""));
    node.until_phase("after", "Running");
    let file = node.path("manifests/a.yaml").display().to_string();
    node.until("the file is shown", || node.ok(&["get", "files"]).contains("unresponsive"));
    let files = node.ok(&["get", "files"]);
    assert!(files.contains(&format!("{file}   unresponsive")), "{files}");
    assert!(files.contains("a.yaml: has not answered since 20"), "{files}");
    let events = node.ok(&["get", "events"]);
    assert!(events.contains("Unresponsive") && events.contains("a.yaml: has not answered since"), "{events}");
    let healthy = health(&node);
    assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
    assert!(healthy.contains("[-]file-systems failed: a.yaml: has not answered since"), "{healthy}");

    // Many looks later there is still one thread for each of the two.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(threads(&node, "source-look"), 2);
    node.remove("b.yaml");
    node.until("a file that is gone is told of no more", || !node.ok(&["get", "files"]).contains("b.yaml"));

    hanging.answer();
    node.until_phase("late", "Running");
    node.until("all is well", || health(&node).contains("[+]file-systems ok"));
    assert_eq!(threads(&node, "source-look"), 0);
    drop(hanging);
}

#[test]
fn a_file_put_in_the_place_of_one_that_hangs_is_read() {
    let mut node = Node::new();
    let hanging = Hanging::mount(&node.path("dead"), "");
    symlink(hanging.at.join("x.yaml"), node.path("manifests/a.yaml")).unwrap();
    node.start(&[]);
    node.until("the file is shown", || node.ok(&["get", "files"]).contains("unresponsive"));
    let new = node.path("new.yaml");
    fs::write(&new, sleeper("new", "")).unwrap();
    fs::rename(&new, node.path("manifests/a.yaml")).unwrap();
    node.until_phase("new", "Running");
    drop(hanging);
}

#[test]
fn a_manifest_directory_that_hangs_is_told_of_and_stops_nothing_else() {
    let mut node = Node::new();
    node.write("a.yaml", &sleeper("a", ""));
    node.start(&QUICK);
    node.until_phase("a", "Running");
    node.kill();
    let away = node.path("manifests.kept");
    fs::rename(node.path("manifests"), &away).unwrap();
    let hanging = Hanging::mount(&node.path("dead"), "");
    symlink(&hanging.at, node.path("manifests")).unwrap();
    node.start(&QUICK);
    node.until("it is told", || health(&node).contains("manifests: has not answered since"));
    assert!(node.ok(&["get", "files"]).contains("unresponsive"));
    assert_eq!(node.phase("a"), "Running");
    fs::remove_file(node.path("manifests")).unwrap();
    fs::rename(&away, node.path("manifests")).unwrap();
    drop(hanging);
    node.until("the directory is read", || node.ok(&["get", "files"]).contains("a.yaml   ok"));
}

#[test]
fn a_killed_agent_with_a_call_that_nothing_ends_gives_its_locks_back() {
    let mut node = Node::new();
    let hanging = Hanging::mount(&node.path("dead"), "");
    symlink(hanging.at.join("x.yaml"), node.path("manifests/a.yaml")).unwrap();
    node.write("b.yaml", &sleeper("b", ""));
    node.start(&QUICK);
    node.until_phase("b", "Running");
    node.until("the file is shown", || node.ok(&["get", "files"]).contains("unresponsive"));
    let mut old = node.agent.take().unwrap();
    old.kill().unwrap();
    // The control: the call is one that SIGKILL does not end, so the process stays.
    std::thread::sleep(Duration::from_millis(500));
    assert!(old.try_wait().unwrap().is_none(), "the call was ended by the signal: nothing is shown here");
    node.start(&QUICK);
    assert_eq!(node.phase("b"), "Running");
    drop(hanging);
    old.wait().unwrap();
}

#[test]
fn a_host_path_that_hangs_stops_its_own_pod_only_and_says_so() {
    let mut node = Node::new();
    let mut hanging = Hanging::mount(&node.path("dead"), "");
    node.start(&QUICK);
    let volume =
        format!("  volumes: [{{name: v, hostPath: {{path: {}, type: File}}}}]\n", hanging.at.join("x.yaml").display());
    // More than the agent has threads for what blocks.
    for number in 0..20 {
        node.write(&format!("h{number}.yaml"), &sleeper(&format!("h{number}"), &volume));
    }
    node.until("the first is tried", || threads(&node, "aside") > 0);
    node.write("z.yaml", &sleeper("z", ""));
    node.until_phase("z", "Running");
    assert_eq!(threads(&node, "aside"), 1, "one call on a path");
    node.until("it is told", || health(&node).contains("dead/x.yaml: has not answered since"));
    let events = node.ok(&["get", "events"]);
    assert!(events.contains("dead/x.yaml: has not answered since"), "{events}");
    node.remove("h1.yaml");
    node.until_phase("h1", "absent");
    hanging.answer();
    node.until_phase("h0", "Running");
    node.until("all is well", || health(&node).contains("[+]file-systems ok"));
    drop(hanging);
}

#[test]
fn a_bundle_that_hangs_stops_its_own_containers_only_and_says_so() {
    let mut node = Node::new();
    let hanging = Hanging::mount(&node.path("dead"), "");
    symlink(hanging.at.join("x.yaml"), node.path("bundles/gone")).unwrap();
    node.start(&QUICK);
    for number in 0..20 {
        let text = sleeper(&format!("g{number}"), "").replace("image: box", "image: gone");
        node.write(&format!("g{number}.yaml"), &text);
    }
    node.until("the first is tried", || threads(&node, "aside") > 0);
    node.write("z.yaml", &sleeper("z", ""));
    node.until_phase("z", "Running");
    node.until("it is told", || waiting(&node, "g0").contains("has not answered since"));
    assert_eq!(threads(&node, "aside"), 1, "one call on a path");
    let begun = Instant::now();
    node.signal("-TERM");
    while node.path("run/podwright.sock").exists() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the agent waits for what hangs");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(hanging);
    node.agent.take().unwrap().wait().unwrap();
}

#[test]
fn a_configuration_that_hangs_is_not_taken_up_and_stops_nothing() {
    let mut node = Node::new();
    let config = node.path("config.yaml");
    let mut hanging = Hanging::mount(&node.path("dead"), "logLevel: debug\n");
    fs::write(&config, "fileCheckFrequency: 1s\n").unwrap();
    node.start(&["--config", config.to_str().unwrap()]);
    fs::remove_file(&config).unwrap();
    symlink(hanging.at.join("x.yaml"), &config).unwrap();
    node.signal("-HUP");
    node.write("a.yaml", &sleeper("a", ""));
    node.until_phase("a", "Running");
    node.until("it is told", || health(&node).contains("has not answered since"));
    hanging.answer();
    node.until("all is well", || health(&node).contains("[+]file-systems ok"));
    drop(hanging);
}
