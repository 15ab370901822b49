#!/bin/sh
# make setup: the pinned compiler and the programs of cfg/toolchain.toml.
#
# Looks for what is missing, says which, and installs it with apt, as root or through sudo; elsewhere it prints the
# list. Leaves `build/toolchain`, which the Makefile and `delias` read: absolute paths of rustc, cargo and sysroot, so
# that a rustup shim earlier on PATH does no harm. With everything there it takes a few milliseconds.
set -eu
cd "$(dirname "$0")/.."
pins=cfg/toolchain.toml
found=build/toolchain

say() { echo "setup: $*" >&2; }

# value SECTION KEY: a value of the pins; keys may be quoted.
value() {
    awk -v want="[$1]" -v key="$2" '
        /^\[/ { section = $0; next }
        section == want { k = $1; gsub(/"/, "", k); if (k == key) { sub(/^[^=]*= *"/, ""); sub(/".*$/, ""); print } }' "$pins"
}
# keys SECTION: its keys, one a line.
keys() { awk -v want="[$1]" '/^\[/ { section = $0; next } section == want && / = / { k = $1; gsub(/"/, "", k); print k }' "$pins"; }

release=$(sed -n 's/^release = "\(.*\)"$/\1/p' "$pins")

# Sets RUSTC, CARGO and SYSROOT from one candidate, if it is the pinned release and has its library's source.
try_rustc() {
    [ -x "$1" ] || return 1
    "$1" -vV 2>/dev/null | grep -qx "release: $release" || return 1
    SYSROOT=$("$1" --print sysroot 2>/dev/null) || return 1
    [ -d "$SYSROOT/lib/rustlib/src/rust/library/core" ] || return 1
    # The compiler itself rather than a shim that would look for it again.
    for RUSTC in "$SYSROOT/bin/rustc" "$1"; do
        CARGO=$(dirname "$RUSTC")/cargo
        [ -x "$RUSTC" ] && [ -x "$CARGO" ] && return 0
    done
    return 1
}

find_compiler() {
    for candidate in /usr/bin/rustc "${RUSTUP_HOME:-$HOME/.rustup}/toolchains/$release"-*/bin/rustc "$(command -v rustc || true)"; do
        if try_rustc "$candidate"; then return 0; fi
    done
    return 1
}

# The compiler found last time, while the pins are older than the finding.
remembered() {
    [ -f "$found" ] && [ "$found" -nt "$pins" ] || return 1
    . "./$found"
    [ -x "$RUSTC" ] && [ -x "$CARGO" ] && [ "$found" -nt "$RUSTC" ] && [ -d "$SYSROOT/lib/rustlib/src/rust/library/core" ]
}

# Sets `missing` (what) and `packages` (of Debian).
look() {
    missing= packages=
    if remembered; then
        compiler=remembered
    elif find_compiler; then
        compiler=found
    else
        compiler=
        missing="rustc-$release-with-library-source"
        packages=$(value compiler packages)
    fi
    for program in $programs; do
        command -v "$program" >/dev/null || { missing="$missing $program"; packages="$packages $(value programs "$program")"; }
    done
    for file in $files; do
        [ -e "$file" ] || { missing="$missing $file"; packages="$packages $(value files "$file")"; }
    done
}

programs=$(keys programs)
files=$(keys files)
look
if [ -n "$missing" ]; then
    say "missing:" $missing
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    if command -v apt-get >/dev/null && { [ -z "$as_root" ] || command -v sudo >/dev/null; }; then
        packages=$(printf '%s\n' $packages | sort -u)
        say "installing with apt:" $packages
        { $as_root apt-get update -q && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -q -y --no-install-recommends $packages; } >&2 </dev/null ||
            say "apt could not install all of them"
        hash -r
        look
    fi
fi
if [ -n "$missing" ]; then
    say "still missing, to be installed by hand:"
    for what in $missing; do
        case $what in
        rustc-*) say "  Rust $release with the source of its library: rustup toolchain install $release -c rust-src" ;;
        /*) say "  $what (on Debian in $(value files "$what"))" ;;
        *) say "  $what (on Debian in $(value programs "$what"))" ;;
        esac
    done
    exit 1
fi
if [ "$compiler" = found ]; then
    mkdir -p build
    printf "RUSTC='%s'\nCARGO='%s'\nSYSROOT='%s'\n" "$RUSTC" "$CARGO" "$SYSROOT" >"$found.new"
    mv "$found.new" "$found"
    say "Rust $release at $RUSTC"
fi
