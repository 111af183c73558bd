# What the scripts share. Sourced by bash with `set -euo pipefail`.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$REPO/target}
# Tools that the scripts install for themselves.
TOOLS=$TARGET/tools
# Cargo profile and its directory below the target's; `dev` lands in `debug`.
PROFILE=${PROFILE:-dev}

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

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

# What building needs besides Rust.
build_packages() {
    packages gcc libc6-dev libseccomp-dev pkg-config
    command -v cargo >/dev/null || die "cargo is not in PATH: install Rust 1.91 or newer (https://rustup.rs)"
}
