#!/usr/bin/env python3
"""The highest rate without loss, and an account of every packet on the way to it.

    ndr.py --direction site-to-core --tx-port 0 --rx-port 1 --show "ssh router altitude show" -- --size imix

What stands after `--` are tunables of the profile. Each trial sends at one rate for some seconds, then compares what
TRex sent and received with what Altitude counted meanwhile:

    TRex sent ─▶ received by the in-port ─▶ sent by the out-port ─▶ TRex received
              a                          b                       c

a: what the kernel says of the in-port's socket, and what it steered past it; the rest was lost in network cards.
b: drops by reason, packets split, ICMP messages. Not one packet may be left over here.
c: what the kernel refused to send; the rest was lost in network cards.

Ends with the rate found, and exit code 0; 1 if packets are unaccounted for in b or nothing passes at all; 2 for usage.
With --json every figure is a line as altitude-perf prints them, for `altitude-perf report`.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time

# Counters of a worker that count no drop. Every other one is a reason for a drop.
NOT_DROPS = frozenset(
    "encapsulated reencapsulated decapsulated decapsulated-native native split missed misses-unasked held held-sent icmp-sent "
    "copied-octets ecn-odd turns idle-turns leaked sightings sightings-lost untraced samples-lost".split()
)
# What the kernel counts of an in-port's socket when a packet does not reach its ring, and of an out-port's.
KERNEL_IN = ("kernel-rx-dropped", "kernel-rx-ring-full", "kernel-fill-ring-empty", "steered-to-kernel")
KERNEL_OUT = ("kernel-tx-invalid",)
# Counters are read until two readings are alike: packets of a trial are still on their way when its last one is sent.
SETTLED_SECONDS, SETTLED_TRIES = 0.2, 50
# Longer than Altitude holds a packet whose mapping it waits for: until then it is neither sent nor dropped.
HELD_SECONDS = 4.0


class Refused(Exception):
    """Why there is no figure; the text is for the user."""


class Altitude:
    """Altitude's counters, through `altitude show`."""

    def __init__(self, command):
        self.command = shlex.split(command)

    def show(self, what):
        command = self.command + [what, "--json"]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
        except OSError as error:
            raise Refused("%s: %s" % (" ".join(command), error))
        if done.returncode != 0:
            raise Refused("%s: %s" % (" ".join(command), done.stderr.strip()))
        return json.loads(done.stdout)

    def read(self):
        """Counters by name, all workers added up; and those of each port."""
        total = {}
        for worker in self.show("counters")["workers"]:
            for name, value in worker["counters"].items():
                if name not in ("turns", "idle-turns"):
                    total[name] = total.get(name, 0) + value
        return total, [(port["site"], port["core"], port["counters"]) for port in self.show("ports")["ports"]]


def settled(read, pause=time.sleep):
    """What `read` gives once it gives the same twice."""
    last = read()
    for _ in range(SETTLED_TRIES):
        pause(SETTLED_SECONDS)
        now, last = last, read()
        if now == last:
            return last
    raise Refused("counters do not come to rest: is there other traffic?")


def difference(after, before):
    return {name: value - before.get(name, 0) for name, value in after.items()}


class Account:
    """Where the packets of one trial went."""

    def __init__(self, decap, sent, received, before, after):
        self.sent, self.received = sent, received
        counters = difference(after[0], before[0])
        ports = [(site, core, difference(now, then)) for (site, core, now), (_, _, then) in zip(after[1], before[1])]

        def total(name, side=None):
            wanted = [counts for site, core, counts in ports if side is None or (site if side == "site" else core)]
            return sum(counts.get(name, 0) for counts in wanted)

        inward, outward = ("core", "site") if decap else ("site", "core")
        self.taken, self.given = total("received-packets", inward), total("sent-packets", outward)
        self.drops = {name: value for name, value in counters.items() if name not in NOT_DROPS and value}
        came = total("received-packets") + counters.get("split", 0) + counters.get("icmp-sent", 0)
        went = total("sent-packets") + sum(self.drops.values())
        self.unaccounted = came - went
        self.kernel_in = {name: total(name, inward) for name in KERNEL_IN if total(name, inward)}
        self.kernel_out = {name: total(name, outward) for name in KERNEL_OUT if total(name, outward)}
        # Below zero: others sent as well.
        self.cards_in = sent - self.taken - sum(self.kernel_in.values())
        self.cards_out = self.given - received - sum(self.kernel_out.values())

    def loss(self):
        """Part of the packets that did not arrive."""
        return max(self.sent - self.received, 0) / float(self.sent) if self.sent else 1.0

    def lines(self):
        """For people; nothing of a trial in which all is well."""
        parts = [("before Altitude, in the kernel: %s" % name, value) for name, value in sorted(self.kernel_in.items())]
        parts.append(("before Altitude, in network cards", self.cards_in))
        parts += [("dropped: %s" % name, value) for name, value in sorted(self.drops.items())]
        parts.append(("UNACCOUNTED FOR in Altitude", self.unaccounted))
        parts += [("behind Altitude, in the kernel: %s" % name, value)
                  for name, value in sorted(self.kernel_out.items())]
        parts.append(("behind Altitude, in network cards", self.cards_out))
        return ["    %10d %s" % (value, what) for what, value in parts if value]


class Trex:
    """Two ports of a TRex server with a profile loaded. `error` is what its library raises."""

    def __init__(self, client, error, streams, tx_port, rx_port):
        self.client, self.error, self.tx_port, self.rx_port = client, error, tx_port, rx_port
        try:
            client.connect()
            client.reset(ports=[tx_port, rx_port])
            client.add_streams(streams, ports=[tx_port])
        except error as why:
            raise Refused("TRex: %s" % why)

    def send(self, rate, seconds):
        """Sends `rate` packets a second."""
        try:
            self.client.clear_stats()
            # Forced: the rates that the profile itself names mean nothing.
            self.client.start(ports=[self.tx_port], mult="%dpps" % rate, duration=seconds, force=True)
            self.client.wait_on_traffic(ports=[self.tx_port])
        except self.error as why:
            raise Refused("TRex: %s" % why)

    def read(self):
        """Packets sent and received since `send` began."""
        stats = self.client.get_stats()
        return stats[self.tx_port]["opackets"], stats[self.rx_port]["ipackets"]

    def close(self):
        self.client.disconnect()


def trial(trex, altitude, decap, rate, seconds, say):
    before = settled(altitude.read)
    trex.send(rate, seconds)
    sent, received = settled(trex.read)
    account = Account(decap, sent, received, before, settled(altitude.read))
    if account.unaccounted:
        time.sleep(HELD_SECONDS)
        sent, received = settled(trex.read)
        account = Account(decap, sent, received, before, settled(altitude.read))
    say("%12d pps: %d sent, %d received, loss %.4f %%" % (rate, sent, received, 100 * account.loss()))
    for line in account.lines():
        say(line)
    if account.unaccounted:
        raise Refused("%d packets are unaccounted for in Altitude at %d pps" % (account.unaccounted, rate))
    return account


def search(attempt, least, most, resolution, loss):
    """The highest rate whose account loses no more than `loss`, and that account.

    The bounds close in until they are `resolution` of the rate apart; a rate passes only by a trial at that rate.
    """
    account = attempt(most)
    if account.loss() <= loss:
        return most, account
    good, bad, found = 0, most, None
    rate = least
    while rate is not None:
        account = attempt(rate)
        if account.loss() <= loss:
            good, found = rate, account
        else:
            bad = rate
            if rate == least:
                raise Refused("packets are lost at %d pps already: is the path right?" % least)
        middle = (good + bad) // 2
        rate = middle if bad - good > max(resolution * bad, 1) else None
    return good, found


def row(arguments, case, subject, value, unit):
    machine = "%s with TRex" % platform.node()
    mode = "TRex, ports %d to %d, %g s a trial, loss at most %g %%" % (
        arguments.tx_port, arguments.rx_port, arguments.duration, arguments.loss)
    return json.dumps({"bench": "trex", "case": case, "subject": subject, "value": value, "unit": unit,
                       "machine": machine, "kernel": platform.release(), "mode": mode}, sort_keys=True)


def parse(words):
    parser = argparse.ArgumentParser(prog="ndr.py", description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--server", default="127.0.0.1", help="TRex server")
    add("--direction", choices=("site-to-core", "core-to-site"), default="site-to-core")
    add("--tx-port", type=int, default=0, help="TRex port that sends")
    add("--rx-port", type=int, default=1, help="TRex port that receives")
    add("--show", default="altitude show", metavar="COMMAND", help="`altitude show` of the measured router")
    add("--duration", type=float, default=10.0, help="seconds of one trial")
    add("--least", type=int, default=1000, help="packets a second that must pass")
    add("--most", type=int, default=14880952, help="packets a second to try first (10 Gbit/s of 64 octets)")
    add("--resolution", type=float, default=0.5, help="percent of the rate found")
    add("--loss", type=float, default=0.0, help="percent of the packets that may be lost")
    add("--json", action="store_true", help="one JSON object a line instead of words")
    add("tunables", nargs="*", help="of the profile, after --")
    arguments = parser.parse_args(words)
    if not 0 < arguments.least < arguments.most:
        parser.error("--least must be above 0 and below --most")
    if not 0 < arguments.resolution < 100 or not 0 <= arguments.loss < 100 or arguments.duration <= 0:
        parser.error("--resolution, --loss or --duration out of range")
    return arguments


def case(arguments):
    """As altitude-perf names cases: encap/v4v4/64/256 prefixes/1k flows."""
    import lisp_streams

    given = lisp_streams.parser("").parse_args(arguments.tunables)
    lisp_streams.Plan(given)
    direction = "encap" if arguments.direction == "site-to-core" else "decap"
    parts = [direction, given.families, given.size, "%d prefixes" % given.prefixes, "%d flows" % given.flows]
    return "/".join(parts + (["zipf"] if given.distribution == "zipf" else []))


def main(words, connect=None):
    arguments = parse(words)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    trex_library()
    say = (lambda line: None) if arguments.json else print
    decap = arguments.direction == "core-to-site"
    trex = None
    try:
        try:
            name = case(arguments)
        except ValueError as error:
            raise Refused(error)
        altitude = Altitude(arguments.show)
        # Asked before TRex is: a wrong --show is found at once. Whatever it holds from before must not be ours.
        altitude.read()
        time.sleep(HELD_SECONDS)
        trex = (connect or connect_trex)(arguments)

        def attempt(rate):
            return trial(trex, altitude, decap, rate, arguments.duration, say)

        resolution, loss = arguments.resolution / 100, arguments.loss / 100
        rate, account = search(attempt, arguments.least, arguments.most, resolution, loss)
        # What really left TRex, which may have been less than asked for.
        real = min(rate, account.sent / arguments.duration)
        if arguments.json:
            print(row(arguments, name, "altitude", real / 1e6, "Mpps"))
        else:
            print("%s: %.4f Mpps" % (name, real / 1e6))
            if real < 0.99 * rate:
                print("TRex sent %.4f Mpps of %.4f: the generator is the limit" % (real / 1e6, rate / 1e6))
        return 0
    except Refused as why:
        print("ndr.py: %s" % why, file=sys.stderr)
        return 1
    finally:
        if trex is not None:
            trex.close()


def trex_library():
    """TRex's Python library, or None. Imported before anything of scapy, because it brings its own."""
    try:
        from trex.stl import api
        return api
    except ImportError:
        return None


def connect_trex(arguments):
    stl = trex_library()
    if stl is None:
        raise Refused("TRex's Python library is missing: set PYTHONPATH to "
                      "automation/trex_control_plane/interactive of your TRex")
    import stl_profile

    profile = stl_profile.Profile("ndr.py --", arguments.direction == "core-to-site")
    client = stl.STLClient(server=arguments.server)
    streams = profile.get_streams(tunables=arguments.tunables)
    return Trex(client, stl.STLError, streams, arguments.tx_port, arguments.rx_port)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
