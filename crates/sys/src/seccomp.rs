//! Seccomp filters: compiled into the kernel's classic BPF, loaded with seccomp(2) at another moment, maybe in another process.

mod arch;
mod aside;
mod bpf;
mod compile;
mod futex;
mod interpret;
mod listener;
mod profile;
mod program;

pub use aside::Aside;
pub use listener::{Answer, Listener, Notification};
pub use profile::{
    Action, Compare, CompileError, FLAG_LOG, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV, Operator, Profile,
    Rule,
};
pub use program::Program;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_filter_answers_for_the_kernel() {
        let rule = |name: &str, compare| Rule { names: vec![name.into()], action: Action::Errno(42), compare };
        let profile = Profile {
            default: Action::Allow,
            architectures: vec![],
            flags: 0,
            rules: vec![
                rule("getppid", vec![]),
                rule("dup3", vec![Compare { argument: 0, operator: Operator::Equal, value: 77 }]),
                rule("a_call_of_the_future", vec![]),
            ],
        };
        let program = profile.compile().unwrap();
        let program = Program::from_words(&program.words(), program.flags()).unwrap();
        // A filter stays on its thread for ever, so the thread is thrown away.
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            program.load().unwrap();
            // SAFETY: these calls take integers only; the descriptors do not exist.
            let call = |number, arg: i32| Errno::result(unsafe { libc::syscall(number, arg, arg, 0) });
            (call(libc::SYS_getppid, 0), call(libc::SYS_dup3, 77), call(libc::SYS_dup3, 78))
        });
        let (getppid, filtered, other) = thread.join().unwrap();
        assert_eq!(getppid, Err(Errno::ENOMSG));
        assert_eq!(filtered, Err(Errno::ENOMSG));
        assert_eq!(other, Err(Errno::EINVAL));
    }

    #[test]
    fn a_listener_is_handed_over_unfiltered() {
        // Everything the caller could do to send it itself is what the listener would have to answer for.
        let rule = Rule {
            names: ["getppid", "sendmsg", "write", "read", "futex", "close"].map(str::to_owned).to_vec(),
            action: Action::Notify,
            compare: vec![],
        };
        let profile = Profile {
            default: Action::Allow,
            architectures: vec![],
            flags: FLAG_TSYNC | FLAG_WAIT_KILLABLE_RECV,
            rules: vec![rule],
        };
        let program = profile.compile().unwrap();
        assert!(program.has_listener());
        let outcome = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&outcome);
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            let name = program.load_with_listener(|fd| std::fs::read_link(crate::mount::proc_path(&fd))).unwrap();
            // SAFETY: the call takes no arguments. The listener is closed by now.
            let getppid = Errno::result(unsafe { libc::syscall(libc::SYS_getppid) });
            *theirs.lock().unwrap() = Some((name, getppid));
        });
        thread.join().unwrap();
        let (name, getppid) = outcome.lock().unwrap().take().unwrap();
        assert_eq!(name.unwrap().as_os_str(), "anon_inode:seccomp notify");
        assert_eq!(getppid, Err(Errno::ENOSYS));
    }

    #[test]
    fn who_hands_a_listener_over_sleeps_meanwhile() {
        // With this call refused, the filter can only be loaded by the thread that it is for.
        let rule = |name: &str, action| Rule { names: vec![name.into()], action, compare: vec![] };
        let rules = vec![rule("getppid", Action::Notify), rule("seccomp", Action::Errno(1))];
        let profile = Profile { default: Action::Allow, architectures: vec![], flags: 0, rules };
        let program = profile.compile().unwrap();
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            let used = || {
                let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_THREAD).unwrap();
                let parts = [usage.user_time(), usage.system_time()];
                parts.map(|part| part.tv_sec() * 1000 + part.tv_usec() / 1000).iter().sum::<i64>()
            };
            let before = used();
            program.load_with_listener(|_| std::thread::sleep(Duration::from_millis(400))).unwrap();
            used() - before
        });
        let milliseconds = thread.join().unwrap();
        assert!(milliseconds < 100, "{milliseconds} ms of processor time for a wait of 400 ms");
    }

    #[test]
    fn an_unknown_architecture_is_an_error() {
        let profile =
            Profile { default: Action::Allow, architectures: vec!["SCMP_ARCH_PDP11".into()], flags: 0, rules: vec![] };
        let error = profile.compile().unwrap_err();
        assert_eq!(error.to_string(), "unknown architecture SCMP_ARCH_PDP11");
    }

    #[test]
    fn a_filter_that_the_kernel_would_not_take_is_an_error() {
        let rule = |value| Rule {
            names: vec!["read".into()],
            action: Action::Log,
            compare: vec![Compare { argument: 0, operator: Operator::Equal, value }],
        };
        let profile = |count: u64| Profile {
            default: Action::Allow,
            architectures: vec![],
            flags: 0,
            rules: (0..count).map(rule).collect(),
        };
        assert!(profile(700).compile().is_ok());
        assert!(matches!(profile(1000).compile(), Err(CompileError::TooLong(5000..))));
    }
}
