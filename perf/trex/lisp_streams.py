"""The packets of the TRex profiles, in plain scapy: what is sent, and which of its octets vary.

    site to core   Ethernet | IP | UDP                       as a host of the site sends it
    core to site   Ethernet | IP | UDP 4341 | LISP | IP | UDP  as another site's tunnel router sends it

Nothing here needs TRex, so the packets can be built and looked at anywhere:

    python3 lisp_streams.py packets site-to-core --families v4v4 --size imix
    python3 lisp_streams.py pcap core-to-site.pcap core-to-site --packets 4096
    python3 lisp_streams.py mappings --prefixes 1000 --remote-eids 2.0.0.0/8

A packet's source and destination are one host of the measured site (--local-eid) and one host in each of the remote
EID-prefixes, which follow each other from the first of --remote-eids on. A flow is a remote prefix and a UDP source
port; --flows are spread evenly over --prefixes. Sizes are Ethernet frames with their check sequence, as operators
count; from the core a frame is longer by the headers that come off.
"""

import argparse
import collections
import ipaddress
import random
import struct
import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

LISP_DATA = 4341
# Share and size of each part of the Internet mix: the one of altitude-perf.
IMIX = ((7, 64), (4, 570), (1, 1518))
FIRST_PORT = 1024
PORT = 2000
# Source ports of encapsulated packets are the dynamic ones (RFC 9300 section 12).
OUTER_PORTS = 0xC000
# Ranks of a Zipf distribution that have a stream of their own; from there on twice as many share each next one.
ZIPF_SINGLES = 8

# A number that is drawn anew for each packet, from low to high. Counting would not do: numbers that count side by side
# meet in few of their combinations.
Variable = collections.namedtuple("Variable", "name octets low high")
# Where it is written: the low bits that mask has, after a shift to the left, over `octets` octets at an offset.
Write = collections.namedtuple("Write", "variable offset octets mask shift")
# One stream: a packet, its share of all packets, what varies, offsets of IPv4 headers whose checksum is made good, and
# (offset of the IP header, offset of the UDP header) where the UDP checksum is.
Stream = collections.namedtuple("Stream", "name packet share variables writes ipv4 udp")


class BadTunable(ValueError):
    """A tunable that makes no packets; the text says why."""


def parser(name):
    """The tunables, with what they are by default."""
    tunables = argparse.ArgumentParser(prog=name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = tunables.add_argument
    add("--families", choices=("v4v4", "v4v6", "v6v4", "v6v6"), default="v4v4", help="inner, then outer family")
    add("--size", default="64", help="octets of a frame with check sequence, or imix (7 x 64, 4 x 570, 1 x 1518)")
    add("--prefixes", type=int, default=256, help="remote EID-prefixes that packets go to or come from")
    add("--flows", type=int, default=1024, help="flows, a multiple of the prefixes")
    add("--distribution", choices=("uniform", "zipf"), default="uniform", help="of packets over prefixes")
    add("--skew", type=float, default=1.0, help="exponent of the Zipf distribution")
    add("--local-eid", help="host of the measured site [1.1.1.1, 2001:db8:1:1::1]")
    add("--remote-eids", help="where the remote EID-prefixes lie [2.2.0.0/16, 2001:db8:2::/48]")
    add("--prefix-length", type=int, help="of each remote EID-prefix [24, 64]")
    add("--host", type=int, default=2, help="number of the host within each remote EID-prefix")
    add("--local-rloc", help="of the measured router [240.0.254.10, 2001:db8:f::a]")
    add("--remote-rlocs", help="of the other sites, comma-separated; prefixes are shared out in blocks "
        "[240.0.254.20, 2001:db8:f::14]")
    add("--instance", type=int, default=0, help="Instance-ID; 0 sends no Instance-ID")
    add("--router-mac", help="of the measured router's port [TRex's configuration]")
    add("--own-mac", help="of TRex's port [TRex's configuration]")
    add("--udp-checksum", choices=("zero", "hw", "keep"), help="of the site's packets: zero, made good by the network "
        "card (hw), or right for the first packet alone (keep) [zero in IPv4, hw in IPv6]")
    return tunables


class Plan:
    """The tunables with every default filled in and checked."""

    def __init__(self, given):
        self.inner4, self.outer4 = given.families[:2] == "v4", given.families[2:] == "v4"
        default = (lambda v4, v6: v4) if self.inner4 else (lambda v4, v6: v6)
        outer = (lambda v4, v6: v4) if self.outer4 else (lambda v4, v6: v6)
        eid = given.local_eid or default("1.1.1.1", "2001:db8:1:1::1")
        self.local_eid = self.address("--local-eid", eid, self.inner4)
        eids = given.remote_eids or default("2.2.0.0/16", "2001:db8:2::/48")
        rloc = given.local_rloc or outer("240.0.254.10", "2001:db8:f::a")
        self.local_rloc = self.address("--local-rloc", rloc, self.outer4)
        rlocs = given.remote_rlocs or outer("240.0.254.20", "2001:db8:f::14")
        self.remote_rlocs = [self.address("--remote-rlocs", rloc, self.outer4) for rloc in rlocs.split(",")]
        try:
            self.eids = ipaddress.ip_network(eids)
        except ValueError as error:
            raise BadTunable("--remote-eids: %s" % error)
        if self.eids.version != (4 if self.inner4 else 6):
            raise BadTunable("--remote-eids %s is not of the inner family" % eids)
        self.length = given.prefix_length or default(24, 64)
        self.prefixes, self.flows, self.host = given.prefixes, given.flows, given.host
        longest = self.eids.max_prefixlen
        if not max(self.eids.prefixlen, longest // 4) <= self.length <= longest:
            raise BadTunable("--prefix-length %d is not within %s" % (self.length, self.eids))
        if not 1 <= self.prefixes <= 1 << min(self.length - self.eids.prefixlen, 32):
            raise BadTunable("%s has no %d prefixes of length %d" % (self.eids, self.prefixes, self.length))
        if not 0 <= self.host < 1 << (longest - self.length):
            raise BadTunable("--host %d is outside a prefix of length %d" % (self.host, self.length))
        if self.local_eid in self.eids:
            raise BadTunable("--local-eid %s is within --remote-eids %s" % (self.local_eid, self.eids))
        if self.flows < self.prefixes or self.flows % self.prefixes:
            raise BadTunable("--flows %d is no multiple of --prefixes %d" % (self.flows, self.prefixes))
        self.ports = self.flows // self.prefixes
        if self.ports > 0x10000 - FIRST_PORT:
            raise BadTunable("%d flows in each prefix are more than UDP has source ports" % self.ports)
        if not 0 <= given.instance < 1 << 24:
            raise BadTunable("--instance %d has more than 24 bits" % given.instance)
        if len(self.remote_rlocs) > self.prefixes:
            raise BadTunable("more --remote-rlocs than --prefixes")
        self.instance, self.skew = given.instance, given.skew
        self.zipf = given.distribution == "zipf"
        self.sizes = IMIX if given.size == "imix" else ((1, self.octets(given.size)),)
        self.macs = {"src": given.own_mac, "dst": given.router_mac}
        self.udp_checksum = given.udp_checksum or default("zero", "hw")
        if self.udp_checksum == "zero" and not self.inner4:
            raise BadTunable("--udp-checksum zero: a host drops such a packet over IPv6 (RFC 8200 section 8.1)")

    @staticmethod
    def address(name, text, v4):
        try:
            return ipaddress.IPv4Address(text) if v4 else ipaddress.IPv6Address(text)
        except ValueError as error:
            raise BadTunable("%s: %s" % (name, error))

    @staticmethod
    def octets(text):
        if not text.isdigit() or not 64 <= int(text) <= 9216:
            raise BadTunable("--size %s: octets from 64 to 9216, or imix" % text)
        return int(text)

    def prefix(self, index):
        """Remote EID-prefix number `index`."""
        step = 1 << (self.eids.max_prefixlen - self.length)
        first = int(self.eids.network_address) + index * step
        return type(self.eids)((first, self.length))

    def remote(self, index):
        """The host in remote EID-prefix number `index`."""
        return self.prefix(index).network_address + self.host

    def block(self, rloc):
        """Prefixes behind remote RLOC number `rloc`: from, to."""
        count = len(self.remote_rlocs)
        return rloc * self.prefixes // count, (rloc + 1) * self.prefixes // count

    def tiers(self, first, last):
        """(weight, from, to) of prefixes that are equally popular, of those from `first` to `last`.

        Within a stream everything is as likely as everything else: a Zipf distribution is made of streams that are
        smaller the more popular they are. The weight of each is exact, and within it ranks differ by twice at most.
        """
        if not self.zipf:
            return [(float(last - first), first, last)]
        tiers, rank = [], 1
        while rank <= last - first:
            after = min(rank + 1 if rank <= ZIPF_SINGLES else 2 * rank - 1, last - first + 1)
            weight = sum(1.0 / k ** self.skew for k in range(rank, after))
            tiers.append((weight, first + rank - 1, first + after - 1))
            rank = after
        return tiers


def lisp_header(instance):
    """The public Internet's profile: no flag but I (RFC 9300 sections 4.1 and 5.1)."""
    return struct.pack("!II", 0x08000000 if instance else 0, instance << 8)


def ip(v4, source, destination, ttl):
    if v4:
        return IP(src=str(source), dst=str(destination), ttl=ttl, id=0, flags="DF")
    return IPv6(src=str(source), dst=str(destination), hlim=ttl)


def packet(plan, decap, index, size, rloc):
    """The packet of the first flow of prefix `index`, and the offsets of its (outer, inner) IP headers."""
    link = Ether(**{end: mac for end, mac in plan.macs.items() if mac})
    link.type = 0x0800 if (plan.outer4 if decap else plan.inner4) else 0x86DD
    headers = (20 if plan.inner4 else 40) + 8
    payload = max(size - 18 - headers, 0)
    # As another tunnel router sends it: with one hop less than the host gave it.
    ends = (plan.remote(index), plan.local_eid, 63) if decap else (plan.local_eid, plan.remote(index), 64)
    udp = UDP(sport=FIRST_PORT, dport=PORT)
    if plan.udp_checksum == "zero":
        udp.chksum = 0
    inner = ip(plan.inner4, *ends) / udp / Raw(bytes(payload))
    if not decap:
        return link / inner, (None, 14)
    outer = ip(plan.outer4, plan.remote_rlocs[rloc], plan.local_rloc, 63)
    port = outer_port(plan, index, 0)
    # A UDP checksum of zero says that there is none, over IPv6 too (RFC 6935 section 5).
    tunnel = UDP(sport=port, dport=LISP_DATA, chksum=0) / Raw(lisp_header(plan.instance))
    return link / outer / tunnel / inner, (14, 14 + (20 if plan.outer4 else 40) + 16)


def outer_port_bits(plan):
    """How many bits of the outer source port come from the prefix, and how many from the inner source port."""
    if plan.ports == 1:
        return 14, 0
    return (0, 14) if plan.prefixes == 1 else (8, 6)


def outer_port(plan, index, port):
    """Outer source port of a flow: 14 bits of it, so that flows spread over queues and none is torn apart."""
    low, high = outer_port_bits(plan)
    bits = window(plan, index)[0] & ((1 << low) - 1) | ((FIRST_PORT + port) & ((1 << high) - 1)) << low
    return OUTER_PORTS | bits


def window(plan, index):
    """The four octets that hold the end of prefix `index`: their value, shifted down; offset in the address; shift."""
    end = 4 if plan.inner4 else (plan.length + 7) // 8
    shift = 8 * end - plan.length
    octets = plan.prefix(index).network_address.packed[end - 4 : end]
    return struct.unpack("!I", octets)[0] >> shift, end - 4, shift


def varied(plan, decap, first, last, offsets):
    """What varies between the packets of prefixes `first` to `last`: variables, and where they are written."""
    outer, inner = offsets
    variables, writes = [], []
    low, high = outer_port_bits(plan)
    if last - first > 1:
        value, at, shift = window(plan, first)
        name = "prefix"
        variables.append(Variable(name, 4, value, value + last - first - 1))
        address = (12 if plan.inner4 else 8) + (0 if decap else 4 if plan.inner4 else 16)
        writes.append(Write(name, inner + address + at, 4, 0xFFFFFFFF << shift & 0xFFFFFFFF, shift))
        if decap and low:
            writes.append(Write(name, inner - 16, 2, (1 << low) - 1, 0))
    if plan.ports > 1:
        name = "port"
        variables.append(Variable(name, 2, FIRST_PORT, FIRST_PORT + plan.ports - 1))
        writes.append(Write(name, inner + (20 if plan.inner4 else 40), 2, 0xFFFF, 0))
        if decap and high:
            writes.append(Write(name, inner - 16, 2, ((1 << high) - 1) << low, low))
    return variables, writes


def streams(plan, decap):
    """All streams of a direction: sizes x popularity x remote RLOCs."""
    found = []
    for rloc in range(len(plan.remote_rlocs)) if decap else [0]:
        first, last = plan.block(rloc) if decap else (0, plan.prefixes)
        tiers = plan.tiers(first, last)
        whole = sum(weight for weight, _, _ in tiers)
        for weight, first_of, last_of in tiers:
            for parts, size in plan.sizes:
                built, offsets = packet(plan, decap, first_of, size, rloc)
                variables, writes = varied(plan, decap, first_of, last_of, offsets)
                of_size = float(parts) / sum(part for part, _ in plan.sizes)
                share = float(last - first) / plan.prefixes * weight / whole * of_size
                inner = offsets[1]
                udp = [(inner, inner + (20 if plan.inner4 else 40))] if variables and plan.udp_checksum == "hw" else []
                ipv4 = [inner] if variables and plan.inner4 else []
                name = "rloc%d-prefix%d-%d-size%d" % (rloc, first_of, last_of - 1, size)
                found.append(Stream(name, built, share, variables, writes, ipv4, udp))
    return found


def played(stream, pick):
    """Octets of one packet, as TRex's field engine makes it: `pick` chooses a value of each variable."""
    octets = bytearray(bytes(stream.packet))
    values = {variable.name: pick(variable) for variable in stream.variables}
    for write in stream.writes:
        form = {2: "!H", 4: "!I"}[write.octets]
        (old,) = struct.unpack_from(form, octets, write.offset)
        value = values[write.variable] << write.shift & write.mask
        struct.pack_into(form, octets, write.offset, old & ((1 << 8 * write.octets) - 1 - write.mask) | value)
    for at in stream.ipv4:
        octets[at + 10 : at + 12] = b"\0\0"
        struct.pack_into("!H", octets, at + 10, checksum(octets[at : at + 20]))
    for at, udp in stream.udp:
        (length,) = struct.unpack_from("!H", octets, udp + 4)
        octets[udp + 6 : udp + 8] = b"\0\0"
        addresses = octets[at + 12 : at + 20] if octets[at] >> 4 == 4 else octets[at + 8 : at + 40]
        right = checksum(bytes(addresses) + struct.pack("!II", length, 17) + bytes(octets[udp : udp + length]))
        struct.pack_into("!H", octets, udp + 6, right or 0xFFFF)
    return bytes(octets)


def checksum(octets):
    octets = bytes(octets) + b"\0" * (len(octets) % 2)
    total = sum(struct.unpack("!%dH" % (len(octets) // 2), octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def mappings(plan):
    """Altitude's configuration of the remote EID-prefixes as static mappings."""
    for rloc, address in enumerate(plan.remote_rlocs):
        for index in range(*plan.block(rloc)):
            yield '[[map-cache]]\neid = "%s"\n' % plan.prefix(index)
            if plan.instance:
                yield "instance = %d\n" % plan.instance
            yield 'locators = [{ address = "%s" }]\n\n' % address


def capture(path, found, count, seed):
    """A capture file with `count` packets of the streams by their shares: for generators that replay one."""
    chance = random.Random(seed)
    chosen = chance.choices(found, [stream.share for stream in found], k=count)
    with open(path, "wb") as out:
        # Classic, microseconds, Ethernet.
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, stream in enumerate(chosen):
            octets = played(stream, lambda of: chance.randint(of.low, of.high))
            out.write(struct.pack("<IIII", 0, number % 1000000, len(octets), len(octets)) + octets)


USAGE = """usage: lisp_streams.py packets site-to-core|core-to-site [tunables]
       lisp_streams.py pcap FILE site-to-core|core-to-site [--packets N] [--seed N] [tunables]
       lisp_streams.py mappings [tunables]"""


def main(words):
    if not words or words[0] not in ("packets", "pcap", "mappings"):
        sys.exit(USAGE)
    tunables = parser("lisp_streams.py " + words[0])
    if words[0] == "pcap":
        tunables.add_argument("file")
        tunables.add_argument("--packets", type=int, default=4096, help="in the capture file")
        tunables.add_argument("--seed", type=int, default=1, help="of their choice")
    if words[0] != "mappings":
        tunables.add_argument("direction", choices=("site-to-core", "core-to-site"))
        # Without TRex there is no configuration to take them from.
        tunables.set_defaults(own_mac="02:00:00:00:01:01", router_mac="02:00:00:00:01:02")
    given = tunables.parse_args(words[1:])
    try:
        plan = Plan(given)
    except BadTunable as error:
        sys.exit("lisp_streams.py: %s" % error)
    if words[0] == "mappings":
        sys.stdout.writelines(mappings(plan))
        return
    found = streams(plan, given.direction == "core-to-site")
    if words[0] == "pcap":
        capture(given.file, found, given.packets, given.seed)
        return
    # The first and the last packet of each stream: what is between them differs in the same octets.
    for stream in found:
        for end, pick in (("first", lambda of: of.low), ("last", lambda of: of.high)):
            print("%s/%s %.6f %s" % (stream.name, end, stream.share, played(stream, pick).hex()))


if __name__ == "__main__":
    main(sys.argv[1:])
