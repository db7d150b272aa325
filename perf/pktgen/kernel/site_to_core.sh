#!/bin/sh
# Kernel pktgen: what hosts of the site send to other sites, to random remote EIDs from random source ports.
#
# It cannot send LISP packets (it writes plain UDP over IP and nothing of the payload): for the way from the core use
# `altitude-perf gen`, TRex, or Pktgen-DPDK with a capture file.
set -eu

usage() {
    cat <<'TEXT'
usage: site_to_core.sh -i INTERFACE -m ROUTER_MAC [options]

  -i INTERFACE   sends from here
  -m MAC         the measured router's port
  -s SIZE        octets of a frame with check sequence, or imix (7 x 64, 4 x 570, 1 x 1518) [64]
  -r RATE        packets a second, all threads together; 0: as many as possible [0]
  -n COUNT       packets of each thread; 0: until interrupted [0]
  -t THREADS     kernel threads, one for each of the first cores and transmit queues [1]
  -f FIRST       lowest remote EID [2.2.0.2, with -6 2001:db8:2::2]
  -l LAST        highest remote EID [2.2.255.2, with -6 2001:db8:2:ff::2]
  -e EID         the sending host [1.1.1.1, with -6 2001:db8:1:1::1]
  -p PORTS       UDP source ports from 1024 on [4096]
  -6             IPv6: bits that are set in FIRST stay set, bits that are clear in LAST stay clear, the others vary
  -d             dry run: only print what would be written where

Needs root and the module pktgen (CONFIG_NET_PKTGEN); imix needs Linux 5.15. Prints each thread's result at the end.
TEXT
}

fail() {
    echo "site_to_core.sh: $1" >&2
    exit 2
}

interface='' mac='' size=64 rate=0 count=0 threads=1 first='' last='' eid='' ports=4096 family=4 dry=
while getopts i:m:s:r:n:t:f:l:e:p:6dh option; do
    case $option in
        i) interface=$OPTARG ;;
        m) mac=$OPTARG ;;
        s) size=$OPTARG ;;
        r) rate=$OPTARG ;;
        n) count=$OPTARG ;;
        t) threads=$OPTARG ;;
        f) first=$OPTARG ;;
        l) last=$OPTARG ;;
        e) eid=$OPTARG ;;
        p) ports=$OPTARG ;;
        6) family=6 ;;
        d) dry=1 ;;
        h) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || fail "what is '$1'?"
[ -n "$interface" ] || fail "-i is missing"
[ -n "$mac" ] || fail "-m is missing"
for number in "$rate" "$count" "$threads" "$ports"; do
    case $number in
        '' | *[!0-9]*) fail "'$number' is no number" ;;
    esac
done
[ "$threads" -ge 1 ] || fail "-t must be at least 1"
if [ "$ports" -lt 1 ] || [ "$ports" -gt 64511 ]; then
    fail "-p must be 1 to 64511"
fi
case $size in
    imix) ;;
    *[!0-9]* | '') fail "-s is a number or imix" ;;
    *) [ "$size" -ge 64 ] || fail "-s must be at least 64" ;;
esac
if [ $family = 4 ]; then
    first=${first:-2.2.0.2} last=${last:-2.2.255.2} eid=${eid:-1.1.1.1}
else
    first=${first:-2001:db8:2::2} last=${last:-2001:db8:2:ff::2} eid=${eid:-2001:db8:1:1::1}
fi

# Writes a command to a file of pktgen; the kernel says in the file whether it took it.
tell() {
    if [ -n "$dry" ]; then
        echo "$1: $2"
        return
    fi
    echo "$2" >"/proc/net/pktgen/$1" || fail "$1 does not take '$2'"
    if [ "$1" != pgctrl ] && ! grep -q '^Result: OK' "/proc/net/pktgen/$1"; then
        fail "$1 does not take '$2': $(grep '^Result:' "/proc/net/pktgen/$1")"
    fi
}

if [ -z "$dry" ]; then
    [ "$(id -u)" = 0 ] || fail "needs root"
    [ -d /proc/net/pktgen ] || modprobe pktgen || fail "this kernel has no pktgen"
fi

tell pgctrl reset
thread=0
while [ "$thread" -lt "$threads" ]; do
    device=$interface@$thread
    tell "kpktgend_$thread" "add_device $device"
    tell "$device" "count $count"
    # Each packet is one of its own: a clone would repeat the flow.
    tell "$device" "clone_skb 0"
    tell "$device" "queue_map_min $thread"
    tell "$device" "queue_map_max $thread"
    # pktgen counts frames without their check sequence.
    if [ "$size" = imix ]; then
        tell "$device" "imix_weights 60,7 566,4 1514,1"
    else
        tell "$device" "pkt_size $((size - 4))"
    fi
    if [ "$rate" = 0 ]; then
        tell "$device" "delay 0"
    else
        tell "$device" "ratep $((rate / threads))"
    fi
    tell "$device" "dst_mac $mac"
    if [ $family = 4 ]; then
        tell "$device" "src_min $eid"
        tell "$device" "src_max $eid"
        tell "$device" "dst_min $first"
        tell "$device" "dst_max $last"
        tell "$device" "flag IPDST_RND"
    else
        tell "$device" "src6 $eid"
        tell "$device" "dst6_min $first"
        tell "$device" "dst6_max $last"
        # Over IPv6 a host drops UDP without a checksum.
        tell "$device" "flag UDPCSUM"
    fi
    tell "$device" "udp_src_min 1024"
    # One beyond the last.
    tell "$device" "udp_src_max $((1024 + ports))"
    tell "$device" "flag UDPSRC_RND"
    tell "$device" "udp_dst_min 2000"
    tell "$device" "udp_dst_max 2000"
    thread=$((thread + 1))
done

# Returns when all packets are sent; an interrupt stops the threads.
trap 'tell pgctrl stop' INT
tell pgctrl start
[ -n "$dry" ] && exit 0
thread=0
while [ "$thread" -lt "$threads" ]; do
    echo "$interface@$thread: $(grep -A1 '^Result:' "/proc/net/pktgen/$interface@$thread" | tr -s '\n ' ' ')"
    thread=$((thread + 1))
done
