#!/bin/bash
# Runs FRR's zebra and bgpd in the foreground with the configuration of /etc/frr/frr.conf; ends when one of them ends.
#
# Not by FRR's own watchdog: that becomes the user frr, which takes more capabilities than the daemons themselves need as
# a root from whom the container has taken all the others.
set -eu

mkdir -p /run/frr
# One after the other: a bgpd that does not find zebra waits for ten seconds before it looks again.
for daemon in zebra bgpd; do
    "/usr/lib/frr/$daemon" -u root -g root -A 127.0.0.1 --log stdout &
    until [ -S "/run/frr/$daemon.vty" ]; do
        kill -0 $! || exit 1
        sleep 0.1
    done
done
vtysh -b
wait -n
exit 1
