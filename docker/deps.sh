#!/bin/sh
# The one list of system packages (Debian 12) that building, testing and showing Altitude needs.
#
#   docker/deps.sh            installs what is missing: as root, or through sudo; otherwise says how
#   docker/deps.sh --check    installs nothing; exit 1 and the missing packages if there are any
#   docker/deps.sh --list     prints the packages, one a line
#
# Group names (build, lab, peers, containers) after the option choose groups; without one, build and lab. `peers` holds
# what the benches and tests compare with, `containers` a container engine; without them they say SKIP.
set -eu

# libxdp is built from its crate's sources: clang and llvm for its BPF objects, libpcap-dev, m4 and pkg-config for its
# configure script, libelf and zlib to link. linux-libc-dev holds the headers of steer.bpf.c. No 32-bit libc is needed.
build="ca-certificates clang gcc git libc6-dev libelf-dev libpcap-dev linux-libc-dev llvm m4 make pkg-config zlib1g-dev"
# Namespaces and veth, offloads, sysctl, echo requests, a NAT, captures, and the second opinion on every packet; and what the
# kits for other generators (perf/trex, perf/pktgen) are tried with: scapy, Lua, shellcheck.
lab="conntrack ethtool iproute2 iputils-ping lua5.4 nftables procps python3-scapy shellcheck tcpdump tshark util-linux"

# A userspace LISP router, DPDK's look-up tables and forwarder, a processor that counts instructions; and the BGP daemons
# that the ALT meets, which the lab runs from folders of its own; who scrapes our metrics, and who starts services.
peers="bird2 dpdk-dev frr gobgpd libdpdk-dev openoverlayrouter prometheus systemd valgrind"

# A container engine and what makes base images where no registry can be reached: for docker/compose.yml and its test.
containers="debootstrap docker-compose docker.io"

mode=install
groups=
for word in "$@"; do
    case $word in
        --check | --list) mode=${word#--} ;;
        build | lab | peers | containers) groups="$groups $word" ;;
        *)
            echo "usage: docker/deps.sh [--check|--list] [build] [lab] [peers] [containers]" >&2
            exit 2
            ;;
    esac
done

packages=
for group in ${groups:-build lab}; do
    eval "packages=\"\$packages \$$group\""
done

if [ "$mode" = list ]; then
    printf '%s\n' $packages | sort -u
    exit 0
fi

if ! command -v dpkg-query >/dev/null; then
    echo "deps: no dpkg here; install the counterparts of these Debian packages:$packages" >&2
    exit 1
fi

missing=
for package in $packages; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done

if [ -n "$missing" ]; then
    install="apt-get install -y --no-install-recommends$missing"
    if [ "$mode" = check ]; then
        echo "deps: missing:$missing" >&2
        exit 1
    elif [ "$(id -u)" = 0 ]; then
        sudo=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo=sudo
    else
        printf 'deps: missing:%s\ndeps: as root, run: apt-get update && %s\n' "$missing" "$install" >&2
        exit 1
    fi
    echo "deps: installing$missing"
    # tshark asks whether everybody may capture: the lab captures as root, so no.
    echo "wireshark-common wireshark-common/install-setuid boolean false" | $sudo debconf-set-selections
    # The lab starts daemons itself: those that packages bring stay down while they are installed (exit 101 of this file
    # says so), unless the machine has a policy of its own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        trap '$sudo rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
    fi
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null
fi

if ! command -v cargo >/dev/null; then
    echo "deps: cargo is missing: install Rust by rustup (rust-toolchain.toml names the toolchain)" >&2
    exit 1
fi
