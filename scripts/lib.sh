# What the scripts share. Sourced by bash with `set -euo pipefail`.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$REPO/target}
# Tools that the scripts install for themselves.
TOOLS=$TARGET/tools
# Cargo profile and its directory below the target's; `dev` lands in `debug`.
PROFILE=${PROFILE:-dev}

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# For the scripts that run tests: steps NAME, then step..., then steps_end as the last command.
steps() {
    LOGS=$TARGET/$1-logs
    rm -rf "$LOGS"
    mkdir -p "$LOGS"
    passed=0 failed=0 step_table=()
}

# Adds up what a log says of tests (libtest) and cases (the case runner's last line).
count() {
    local sums
    sums=$(awk '/^test result: / { p += $4; f += $6 } /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3 }
        END { print p + 0, f + 0 }' "$1")
    passed=$((passed + ${sums% *})) failed=$((failed + ${sums#* }))
}

# step NAME COMMAND...: one that fails does not keep the others from running. It counts as a test itself.
step() {
    local name=$1 begin=$SECONDS verdict=ok
    shift
    say "== $name"
    if "$@" 2>&1 | tee "$LOGS/$name.log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) verdict=FAILED
    fi
    say "== $name: $verdict ($((SECONDS - begin)) s)"
    step_table+=("$(printf '%6d s  %-7s %s' "$((SECONDS - begin))" "$verdict" "$name")")
    count "$LOGS/$name.log"
}

# What each step took, what did not go as it should though it passed (cases that were late beside others, guests that hung), and as the
# last line the sums. More than 3 such cases, and more than one hang, fail the run. Its status is that of all of them.
steps_end() {
    local line flaky hung
    for line in "${step_table[@]}"; do printf '%s\n' "$line"; done
    printf '%6d s  in all\n' "$SECONDS"
    flaky=$(grep -h '^flaky: ' "$LOGS"/*.log || true)
    hung=$(grep -h '^vm: the guest hung' "$LOGS"/*.log || true)
    [ -z "$flaky$hung" ] || printf '%s\n' "$flaky" "$hung" | grep .
    if [ -n "$flaky" ] && [ "$(wc -l <<<"$flaky")" -gt 3 ]; then
        printf 'more than 3 cases are flaky: failed\n'
        failed=$((failed + 1))
    fi
    if [ -n "$hung" ] && [ "$(wc -l <<<"$hung")" -gt 1 ]; then
        printf 'guests hung more than once: failed\n'
        failed=$((failed + 1))
    fi
    printf '%s passed, %s failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
}

# The target's triple, because .cargo/config.toml names one explicitly.
triple() { rustc -vV | sed -n 's/^host: //p'; }

# Directory of the built programs.
bin_dir() {
    local dir=$PROFILE
    [ "$dir" != dev ] || dir=debug
    printf '%s/%s/%s\n' "$TARGET" "$(triple)" "$dir"
}

# Installs Debian packages that are not there yet; packages that the distribution does not know are an error.
packages() {
    local missing=() package
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" = 'ii ' ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "lacks ${missing[*]}: install them with apt-get, or run this as root"
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # The package index of a fresh image is empty or old.
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { apt-get update -qq >&2 && apt-get install -qq -y --no-install-recommends "${missing[@]}" >&2; } ||
        die "apt-get could not install ${missing[*]}"
}

# Path of a test binary, built where it is not yet: test_binary PACKAGE WHICH..., such as --lib or --test NAME.
test_binary() {
    local package=$1 path
    shift
    # Of the whole workspace, for which `cargo test --workspace` has built it already.
    path=$(cd "$REPO" && cargo test --quiet --no-run --workspace "$@" --message-format json |
        sed -n 's/.*"package_id":"[^"]*#'"$package"'@[^"]*".*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p')
    [ -n "$path" ] || die "cargo did not say where it put the tests of $package"
    printf '%s\n' "$path"
}

# What building needs besides Rust.
build_packages() {
    packages gcc libc6-dev libseccomp-dev pkg-config
    command -v cargo >/dev/null || die "cargo is not in PATH: install Rust 1.91 or newer (https://rustup.rs)"
}

# The newest kernel in /boot with its modules; empty when there is none.
newest_kernel() {
    local kernel version
    for kernel in $(ls -1 /boot/vmlinuz-* 2>/dev/null | sort -rV); do
        version=${kernel#/boot/vmlinuz-}
        [ -d "/lib/modules/$version" ] && { printf '%s\n' "$kernel"; return; }
    done
}

# What the VM needs: QEMU, a kernel, virtme-ng, virtiofsd. Sets KERNEL.
vm_tools() {
    # busybox and modprobe go into the guest's initramfs, which loads the modules of the root file system.
    packages qemu-system-x86 busybox-static file kmod zstd
    KERNEL=$(newest_kernel)
    if [ -z "$KERNEL" ]; then
        case $(. /etc/os-release && echo "$ID ${ID_LIKE-}") in
            *ubuntu*) packages linux-image-generic ;;
            *) packages linux-image-amd64 ;;
        esac
        KERNEL=$(newest_kernel)
    fi
    [ -n "$KERNEL" ] || die "no kernel with modules in /boot"
    if [ ! -x "$TOOLS/venv/bin/vng" ]; then
        packages python3-venv
        say "installing virtme-ng"
        rm -rf "$TOOLS/venv"
        python3 -m venv "$TOOLS/venv"
        "$TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check 'virtme-ng==1.42'
    fi
    if [ ! -x "$TOOLS/bin/virtiofsd" ]; then
        # Debian's own one is the old one in C on some releases, and virtme-ng falls back to 9p with it, which is slow and may hang.
        packages gcc libc6-dev libcap-ng-dev libseccomp-dev
        say "building virtiofsd"
        # Outside the repository, so that its .cargo/config.toml does not make this static.
        (cd / && CARGO_TARGET_DIR=$TOOLS/build cargo install --quiet --locked --root "$TOOLS" --version '^1.13' virtiofsd)
        rm -rf "$TOOLS/build"
    fi
}

# Whether KVM can be used: tried once with a short guest, because it may hang or abort where virtualisation is nested.
# Sets ACCEL to kvm or tcg.
vm_accel() {
    local verdict=$TOOLS/accel-$(basename "$KERNEL")
    if [ ! -s "$verdict" ]; then
        ACCEL=tcg
        if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
            say "trying KVM"
            local wrote
            if wrote=$(setsid timeout -k 2 20 env PATH="$TOOLS/bin:$TOOLS/venv/bin:$PATH" vng --run "$KERNEL" --user root --cpus 1 \
                --memory 512M --cwd / --exec 'echo kvm-works' </dev/null 2>/dev/null) && [[ $wrote == *kvm-works* ]]; then
                ACCEL=kvm
            fi
        fi
        printf '%s\n' "$ACCEL" >"$verdict"
    fi
    ACCEL=$(cat "$verdict")
}
