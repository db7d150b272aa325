#!/usr/bin/env python3
"""mapd.py LIBRARY SOCKET RLOC MAP-RESOLVER: mapd.c in Python, through libaltitude.so and ctypes.

It hears of misses from a router that runs with `--resolver off`, asks the Map-Resolver, and puts the answers into the map-cache.
An example: instance 0, and of answers only EIDs and RLOCs without LCAF.
"""

import ctypes
import ipaddress
import os
import select
import socket
import struct
import sys
import time

ABI, CACHE, MISS = 1, 0, 5
NEGATIVE, AUTHORITATIVE, EPHEMERAL = 1, 2, 4
REACHABLE, LOCAL = 0x10, 0x20
EAGAIN, EEXIST = 11, 17
TRIES, RETRY = 3, 1.0
SIZES = {1: 4, 2: 16}


class Eid(ctypes.Structure):
    _fields_ = [("afi", ctypes.c_uint16), ("plen", ctypes.c_uint8), ("rsv", ctypes.c_uint8),
                ("iid", ctypes.c_uint32), ("addr", ctypes.c_uint8 * 16)]


class Rloc(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint16), ("afi", ctypes.c_uint16), ("addr", ctypes.c_uint8 * 16),
                ("prio", ctypes.c_uint8), ("weight", ctypes.c_uint8), ("mprio", ctypes.c_uint8),
                ("mweight", ctypes.c_uint8), ("flags", ctypes.c_uint32), ("mtu", ctypes.c_uint32),
                ("rtt_us", ctypes.c_uint32), ("rsv", ctypes.c_uint32), ("packets", ctypes.c_uint64),
                ("octets", ctypes.c_uint64), ("tx_nonce", ctypes.c_uint32), ("rx_nonce", ctypes.c_uint32)]


class Entry(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint16), ("version", ctypes.c_uint16), ("flags", ctypes.c_uint32),
                ("ttl_s", ctypes.c_uint32), ("act", ctypes.c_uint8), ("origin", ctypes.c_uint8),
                ("nrloc", ctypes.c_uint16), ("gen", ctypes.c_uint64), ("hits", ctypes.c_uint64),
                ("octets", ctypes.c_uint64), ("created_ms", ctypes.c_uint64), ("used_ms", ctypes.c_uint64),
                ("left_s", ctypes.c_uint32), ("rsv", ctypes.c_uint32), ("eid", Eid)]


class Event(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint16), ("op", ctypes.c_uint16), ("flags", ctypes.c_uint32),
                ("gen", ctypes.c_uint64), ("eid", Eid), ("from_", Eid), ("entry", ctypes.POINTER(Entry)),
                ("rlocs", ctypes.POINTER(Rloc)), ("nrloc", ctypes.c_size_t), ("reason", ctypes.c_int),
                ("suppressed", ctypes.c_uint32)]


def checksum(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets[:len(octets) & ~1]))
    total += octets[-1] << 8 if len(octets) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def address(eid):
    return bytes(eid.addr)[:SIZES[eid.afi]] if eid.afi else b""


class Mapd:
    def __init__(self, library, path, rloc, resolver):
        self.api = ctypes.CDLL(library)
        self.api.altmap_strerror.restype = ctypes.c_char_p
        self.rloc, self.resolver = ipaddress.ip_address(rloc), (resolver, 4342)
        self.udp = socket.socket(socket.AF_INET if self.rloc.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        self.udp.bind((rloc, 0))
        self.asked = {}  # nonce: (EID, source, tries, when to ask again)
        self.router = ctypes.c_void_p()
        self.check(self.api.altmap_open(path.encode(), ABI, ctypes.byref(self.router)))
        self.check(self.api.altmap_subscribe(self.router, ctypes.c_uint32(1 << MISS), 0, None))

    def check(self, result):
        if result < 0:
            sys.exit(f"mapd.py: {self.api.altmap_strerror(result).decode()}")
        return result

    def request(self, nonce, eid, source):
        rloc = struct.pack("!H", 1 if self.rloc.version == 4 else 2) + self.rloc.packed
        message = struct.pack("!BBBB", 1 << 4, 0, 0, 1) + nonce
        message += struct.pack("!H", source.afi) + address(source) + rloc
        message += struct.pack("!BBH", 0, eid.plen, eid.afi) + address(eid)
        # Inside, source and destination are of one family: without an RLOC of the EID's, the packet's source stands in.
        inner = self.rloc.packed if len(self.rloc.packed) == len(address(eid)) else address(source)
        length, port = 8 + len(message), self.udp.getsockname()[1]
        pseudo = inner + address(eid) + struct.pack("!HH", 17, length)
        header = struct.pack("!HHH", port, 4342, length)
        udp = header + struct.pack("!H", checksum(pseudo + header + b"\0\0" + message) or 0xFFFF) + message
        if eid.afi == 1:
            start = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 0, 0, 64, 17)
            ends = inner + address(eid)
            ip = start + struct.pack("!H", checksum(start + b"\0\0" + ends)) + ends
        else:
            ip = struct.pack("!IHBB", 6 << 28, length, 17, 64) + inner + address(eid)
        return struct.pack("!I", 8 << 28) + ip + udp

    def ask(self, nonce):
        eid, source, tries, _ = self.asked[nonce]
        self.udp.sendto(self.request(nonce, eid, source), self.resolver)
        self.asked[nonce] = (eid, source, tries + 1, time.monotonic() + RETRY)

    def missed(self, event):
        pending = any(bytes(asked[0]) == bytes(event.eid) for asked in self.asked.values())
        if event.eid.iid == 0 and not pending and len(self.asked) < 100:
            nonce = os.urandom(8)
            copies = Eid.from_buffer_copy(event.eid), Eid.from_buffer_copy(event.from_)
            self.asked[nonce] = (*copies, 0, 0.0)
            self.ask(nonce)

    def answered(self, octets):
        if len(octets) < 12 or octets[0] >> 4 != 2 or self.asked.pop(octets[4:12], None) is None:
            return
        at, end = 12, len(octets)
        for _ in range(octets[3]):
            minutes, count, plen, act, _, version, afi = struct.unpack_from("!IBBBBHH", octets, at)
            eid = Eid(afi=afi, plen=plen)
            at += 12
            ctypes.memmove(eid.addr, octets[at:at + SIZES[afi]], SIZES[afi])
            at += SIZES[afi]
            flags = EPHEMERAL | (AUTHORITATIVE if act & 0x10 else 0) | (0 if count else NEGATIVE)
            entry = Entry(size=ctypes.sizeof(Entry), version=version & 0xFFF, flags=flags,
                          act=0 if count else act >> 5, ttl_s=min(minutes, 1440) * 60 or 1)
            rlocs = (Rloc * max(count, 1))()
            for each in rlocs[:count]:
                prio, weight, mprio, mweight, _, bits, family = struct.unpack_from("!BBBBBBH", octets, at)
                at += 8
                each.size, each.afi, each.prio, each.weight = ctypes.sizeof(Rloc), family, prio, weight
                each.mprio, each.mweight = mprio, mweight
                each.flags = (REACHABLE if bits & 1 else 0) | (LOCAL if bits & 4 else 0)
                ctypes.memmove(each.addr, octets[at:at + SIZES[family]], SIZES[family])
                at += SIZES[family]
            place = (self.router, CACHE, ctypes.byref(eid), ctypes.byref(entry), rlocs, ctypes.c_size_t(count))
            result = self.api.altmap_add(*place)
            if result == -EEXIST:
                result = self.api.altmap_change(*place, ctypes.c_uint64(0))
            text = self.api.altmap_strerror(result).decode()
            print(f"{ipaddress.ip_address(address(eid))}/{plen} with {count} RLOCs: {text}", flush=True)
            if at > end:
                return

    def run(self):
        print("ready", flush=True)
        while True:
            event = Event(size=ctypes.sizeof(Event))
            while (result := self.api.altmap_next(self.router, ctypes.byref(event), 0)) == 0:
                if event.op == MISS:
                    self.missed(event)
            if result != -EAGAIN:
                self.check(result)
            due = min((asked[3] for asked in self.asked.values()), default=time.monotonic() + 60)
            readable, _, _ = select.select([self.api.altmap_fd(self.router), self.udp], [], [],
                                           max(0, due - time.monotonic()))
            if self.udp in readable:
                try:
                    self.answered(self.udp.recv(4096))
                except (struct.error, KeyError):
                    pass  # cut off, or an address family that is not read here
            for nonce in [nonce for nonce, asked in self.asked.items() if asked[3] <= time.monotonic()]:
                if self.asked[nonce][2] >= TRIES:
                    del self.asked[nonce]
                else:
                    self.ask(nonce)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: mapd.py LIBRARY SOCKET RLOC MAP-RESOLVER")
    Mapd(*sys.argv[1:]).run()
