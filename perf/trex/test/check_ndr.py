"""ndr.py against a router and a TRex that are made up: finds the rate, accounts for losses, says what is wrong."""

import contextlib
import io
import json
import os
import sys

TEST = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(TEST))
sys.dont_write_bytecode = True

import ndr

ndr.SETTLED_SECONDS = ndr.HELD_SECONDS = 0
REAL_SHOW = ndr.Altitude.show


class World:
    """A router that forwards `capacity` packets a second and counts; TRex's client; `altitude show`."""

    def __init__(self, capacity, ring=0, hidden=0, generator=None, held=0):
        self.capacity, self.ring, self.hidden, self.generator, self.held = capacity, ring, hidden, generator, held
        self.waiting, self.reads = 0, 0
        self.counters = {name: 7 for name in ndr.NOT_DROPS}
        self.counters["transmit-full"] = 3
        self.site = {"received-packets": 100, "sent-packets": 50, "kernel-rx-ring-full": 0}
        self.core = {"received-packets": 50, "sent-packets": 90, "kernel-tx-invalid": 0}
        self.rates, self.stats, self.closed = [], {}, False

    def show(self, what):
        if what == "counters":
            self.reads += 1
            if self.waiting and self.reads > 3:
                self.counters["hold-expired"] = self.counters.get("hold-expired", 0) + self.waiting
                self.waiting = 0
            return {"workers": [{"worker": 0, "counters": dict(self.counters)}], "control": {}}
        return {"ports": [{"site": True, "core": False, "counters": dict(self.site)},
                          {"site": False, "core": True, "counters": dict(self.core)}]}

    # TRex's client.
    def connect(self):
        pass

    def reset(self, ports):
        assert ports == [0, 1]

    def add_streams(self, streams, ports):
        assert (streams, ports) == (["stream"], [0])

    def clear_stats(self):
        self.stats = {}

    def start(self, ports, mult, duration, force):
        assert mult.endswith("pps") and force and ports == [0]
        rate = int(mult[:-3])
        self.rates.append(rate)
        sent = int(min(rate, self.generator or rate) * duration)
        passed = min(sent, int(self.capacity * duration))
        in_ring = min(self.ring, sent - passed)
        dropped = sent - passed - in_ring
        self.site["received-packets"] += sent - in_ring
        self.site["kernel-rx-ring-full"] += in_ring
        self.counters["encapsulated"] += passed + dropped
        self.counters["transmit-full"] += dropped
        self.counters["turns"] += 1
        self.counters["held"] += self.held
        self.waiting, self.reads = self.held, 0
        gone = self.hidden + self.held
        self.core["sent-packets"] += passed - gone
        self.stats = {0: {"opackets": sent}, 1: {"ipackets": passed - gone}}

    def wait_on_traffic(self, ports):
        assert ports == [0]

    def get_stats(self):
        return self.stats

    def disconnect(self):
        self.closed = True


def run(world, *words):
    """Exit code, what it printed, and what it complained of."""
    ndr.Altitude.show = lambda self, what: world.show(what)
    connect = lambda arguments: ndr.Trex(world, OSError, ["stream"], arguments.tx_port, arguments.rx_port)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = ndr.main(list(words), connect)
    return code, out.getvalue(), err.getvalue()


# The rate is found to within the resolution, from below, and every trial's losses are told.
world = World(capacity=3141592, ring=1000)
code, said, wrong = run(world, "--duration", "2", "--json", "--", "--size", "imix")
figure = json.loads(said)
assert code == 0 and not wrong and world.closed, (code, said, wrong)
assert figure["bench"] == "trex" and figure["case"] == "encap/v4v4/imix/256 prefixes/1024 flows", figure
assert 3.141592 * 0.994 <= figure["value"] <= 3.141592, figure
assert world.rates[:2] == [14880952, 1000] and len(world.rates) < 16, world.rates

code, said, wrong = run(World(capacity=3141592, ring=1000), "--duration", "2")
assert code == 0, (said, wrong)
assert "23477720 dropped: transmit-full" in said, said
assert "1000 before Altitude, in the kernel: kernel-rx-ring-full" in said, said
assert said.splitlines()[-1].startswith("encap/v4v4/64/256 prefixes/1024 flows: 3.1"), said

# Everything passes: one trial; and a generator that cannot keep up is told from a router that cannot.
world = World(capacity=20000000, generator=10000000)
code, said, wrong = run(world)
assert code == 0 and len(world.rates) == 1 and "the generator is the limit" in said, (said, wrong)

# Packets that wait for a mapping are dropped in the end, and only then accounted for.
world = World(capacity=20000000, held=5)
code, said, wrong = run(world, "--loss", "1")
assert code == 0 and "5 dropped: hold-expired" in said, (said, wrong)

# Loss that is allowed.
world = World(capacity=14880000)
code, said, _ = run(world, "--loss", "0.01")
assert code == 0 and len(world.rates) == 1, said

# A packet that nobody counted is worse than one that was dropped.
world = World(capacity=20000000, hidden=1)
code, said, wrong = run(world)
assert code == 1 and "1 packets are unaccounted for" in wrong and world.closed, (said, wrong)
assert "1 UNACCOUNTED FOR" in said, said

# Nothing passes.
code, said, wrong = run(World(capacity=0))
assert code == 1 and "lost at 1000 pps already" in wrong, wrong

# Bad tunables and bad arguments are told before anything is sent.
world = World(capacity=1)
code, said, wrong = run(world, "--", "--prefixes", "300")
assert code == 1 and "no 300 prefixes" in wrong and not world.rates, wrong
for words in (["--least", "0"], ["--duration", "0"], ["--direction", "up"]):
    try:
        run(world, *words)
        raise AssertionError(words)
    except SystemExit as usage:
        assert usage.code == 2, words

# A command that cannot be run, or fails, is named.
for command in ("/nonexistent/altitude show", "false"):
    said = command + " counters --json: "
    try:
        REAL_SHOW(ndr.Altitude(command), "counters")
        raise AssertionError(command)
    except ndr.Refused as why:
        assert str(why).startswith(said), why

print(json.dumps(sorted(ndr.NOT_DROPS)))
