//! The text of `--help`.

pub(super) const HELP: &str = "\
podwright-oci, an OCI runtime for Linux with cgroup v2

podwright-oci [--root DIR] [--log FILE] [--log-format text|json] [--log-level LEVEL] [--debug] [--systemd-cgroup]
              [--rootless auto|false] COMMAND

  create [-b BUNDLE] [--pid-file FILE] [--console-socket SOCKET] [--pidfd-socket SOCKET] [--preserve-fds N]
         [--no-new-keyring] [--no-pivot] ID
  start ID
  run    as create, and [-d|--detach] [--keep] [--no-subreaper]
  state ID
  kill [-a|--all] ID [SIGNAL]
  delete [-f|--force] ID
  exec [-p|--process FILE] [-d|--detach] [--pid-file FILE] [-e|--env K=V]... [--cwd DIR] [-u|--user UID[:GID]]
       [-g|--additional-gids GID]... [-c|--cap CAP]... [--no-new-privs] [--apparmor PROFILE] [--process-label LABEL]
       [--cgroup PATH] [--ignore-paused] [-t|--tty] [--console-socket SOCKET] [--pidfd-socket SOCKET]
       [--preserve-fds N] ID [COMMAND [ARG]...]
  pause ID
  resume ID
  ps [-f|--format table|json] ID [PS-OPTION]...
  events [--stats] [--interval DURATION] ID
  update [-r|--resources FILE|-] [--memory BYTES] [--memory-swap BYTES] [--memory-reservation BYTES] [--cpu-quota US]
         [--cpu-period US] [--cpu-burst US] [--cpu-share N] [--cpu-idle 0|1] [--cpuset-cpus LIST] [--cpuset-mems LIST]
         [--pids-limit N] [--blkio-weight N] ID
  list [-f|--format table|json] [-q|--quiet]
  spec [-b BUNDLE] [--rootless]
  features

  --root       where the states of containers are kept [/run/podwright-oci]
  --systemd-cgroup
               let systemd make the cgroup; linux.cgroupsPath is SLICE:PREFIX:NAME then
  --log-level  debug, info, warning, error [warning]; --debug is debug
  --version    this program's version and the one of runtime-spec
";
