#!/bin/sh
# Makes the two images that docker/Dockerfile starts from, for machines that reach no registry: Debian 12 out of its
# package mirror, and the same with this machine's Rust toolchain and the crates that cargo has downloaded here.
#
#   docker/base-images.sh debian IMAGE    as root, with debootstrap
#   docker/base-images.sh rust IMAGE FROM
#
#   docker build -f docker/Dockerfile --build-arg RUST_IMAGE=… --build-arg BASE_IMAGE=… --network host -t altitude .
set -eu
cd "$(dirname "$0")/.."

release=bookworm
fail() {
    echo "base-images: $*" >&2
    exit 1
}

case ${1:-} in
    debian) [ $# = 2 ] || fail "usage: base-images.sh debian IMAGE" ;;
    rust) [ $# = 3 ] || fail "usage: base-images.sh rust IMAGE FROM" ;;
    *) fail "usage: base-images.sh debian IMAGE | rust IMAGE FROM" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

if [ "$1" = debian ]; then
    [ "$(id -u)" = 0 ] || fail "debootstrap needs root"
    # The mirror this machine uses, if it is a Debian of the same release; otherwise debootstrap's own choice.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $release" 'Created-By: Packages' 2>/dev/null \
        | head -n 1 || true)
    # Its mounts of /proc and /sys end with it, however it ends.
    # shellcheck disable=SC2086
    unshare --mount --propagation private \
        debootstrap --variant=minbase "$release" "$work/root" $mirror >"$work/log" 2>&1 \
        || fail "debootstrap: $(tail -n 3 "$work/log")"
    # As in the registry's slim image: no fsync for every file, no downloads left behind, no documentation.
    echo force-unsafe-io >"$work/root/etc/dpkg/dpkg.cfg.d/container"
    printf 'path-exclude /usr/share/%s/*\n' doc locale man >>"$work/root/etc/dpkg/dpkg.cfg.d/container"
    cat >"$work/root/etc/apt/apt.conf.d/container" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
END
    tar --create --directory "$work/root" --exclude='./var/cache/apt/archives/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/man/*' . \
        | docker import - "$2" >/dev/null
else
    sysroot=$(rustc --print sysroot)
    host=$(rustc -vV | sed -n 's/^host: //p')
    case $sysroot in /usr) fail "the toolchain in /usr cannot be told from the system: install Rust by rustup" ;; esac
    # What the build will ask for, and no more than this machine needs itself.
    cargo fetch --quiet --locked --target "$host"
    crates=${CARGO_HOME:-$HOME/.cargo}/registry
    [ -d "$crates/cache" ] || fail "no crates in $crates"
    cat >"$work/Dockerfile" <<END
FROM $3
COPY rust /usr/local/rust
COPY registry /usr/local/cargo/registry
ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true
END
    (cd "$sysroot" && printf '%s\n' bin/cargo bin/rustc lib/*.so* "lib/rustlib/$host") >"$work/parts"
    # Names are moved, the targets of symbolic links (S) are not.
    tar --create --owner=0 --group=0 --transform='s,^\(bin\|lib\)/,rust/&,S;s,^\(cache\|index\),registry/&,S' \
        --directory "$work" Dockerfile --directory "$sysroot" --files-from="$work/parts" \
        --directory "$crates" cache index \
        | docker build --quiet --tag "$2" - >/dev/null
fi
