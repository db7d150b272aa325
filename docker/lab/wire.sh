#!/bin/sh
# Cables one machine of docker/compose.yml, then stays: its network namespace is what routers of the lab live in.
#
#   wire.sh NAME=SUBNET ADDRESS/LEN... [via ADDRESS]... [NAME=SUBNET ...]
#
# The interface that Docker numbered from SUBNET (the part before the host's own, as 198.18.1.) is called NAME, loses
# Docker's addresses, and gets these. `via` is the default router, of the family of its address.
set -eu

fail() {
    echo "wire: $*" >&2
    exit 1
}

# Docker's own default route would take what the lab cannot route out of it.
ip -4 route flush default
ip -6 route flush default

name=
while [ $# -gt 0 ]; do
    case $1 in
        *=*)
            name=${1%%=*}
            subnet=${1#*=}
            port=$(ip -4 -oneline address show | awk -v subnet="$subnet" 'index($4, subnet) == 1 { print $2; exit }')
            [ -n "$port" ] || fail "no interface has an address of $subnet"
            ip link set "$port" down
            ip address flush dev "$port"
            ip link set "$port" name "$name" up
            # The checksums and long segments that veth leaves to hardware: an AF_XDP router sees them as they are, and
            # the host behind it would drop them.
            ethtool -K "$name" tx off tso off gso off gro off >/dev/null
            ;;
        via)
            shift
            ip route replace default via "$1" dev "$name"
            ;;
        */*)
            [ -n "$name" ] || fail "$1 comes before the first interface"
            case $1 in
                *:*) ip address add "$1" dev "$name" nodad ;;
                *) ip address add "$1" dev "$name" ;;
            esac
            ;;
        *) fail "$1 is neither NAME=SUBNET, ADDRESS/LEN nor via" ;;
    esac
    shift
done

touch /run/wired
exec sleep infinity
