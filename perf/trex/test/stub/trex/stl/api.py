"""Stands in for TRex's Python library in the test: the parts that the profiles use, with TRex's own checks of them.

What TRex would make of a stream's instructions is played in Python, so that the test compares packets.
"""

import struct

from scapy.packet import Packet


class STLError(Exception):
    pass


def check(what, right):
    if not right:
        raise STLError(what)


class CTRexVmInsFixHwCs:
    L4_TYPE_UDP = 11
    L4_TYPE_TCP = 13
    L4_TYPE_IP = 17


class STLVmFlowVar:
    def __init__(self, name, init_value=None, min_value=0, max_value=255, size=4, step=1, op="inc"):
        check("name", isinstance(name, str))
        check("size", size in (1, 2, 4, 8))
        check("op", op in ("inc", "dec", "random"))
        for value in (min_value, max_value, step):
            check("a number of the variable's size", isinstance(value, int) and 0 <= value < 1 << 8 * size)
        check("min_value above max_value", min_value <= max_value)
        self.name, self.size, self.low, self.high = name, size, min_value, max_value

    def play(self, octets, values, pick):
        values[self.name] = pick(self)


class STLVmWrFlowVar:
    def __init__(self, fv_name, pkt_offset, offset_fixup=0, add_val=0, is_big=True):
        check("offsets", isinstance(pkt_offset, int) and isinstance(offset_fixup, int) and isinstance(add_val, int))
        self.fv_name, self.offset = fv_name, pkt_offset + offset_fixup

    def within(self, variables, length):
        check("a write of %s" % self.fv_name, self.fv_name in variables)
        self.size = variables[self.fv_name].size
        check("a write within the packet", 0 <= self.offset and self.offset + self.size <= length)

    def play(self, octets, values, pick):
        octets[self.offset : self.offset + self.size] = values[self.fv_name].to_bytes(self.size, "big")


class STLVmWrMaskFlowVar:
    def __init__(self, fv_name, pkt_offset, pkt_cast_size=1, mask=0xFF, shift=0, offset_fixup=0):
        check("pkt_cast_size", pkt_cast_size in (1, 2, 4))
        check("mask", isinstance(mask, int) and 0 < mask < 1 << 8 * pkt_cast_size)
        check("shift", isinstance(shift, int) and -32 < shift < 32)
        self.fv_name, self.offset, self.size = fv_name, pkt_offset + offset_fixup, pkt_cast_size
        self.mask, self.shift = mask, shift

    def within(self, variables, length):
        check("a write of %s" % self.fv_name, self.fv_name in variables)
        check("a write within the packet", 0 <= self.offset and self.offset + self.size <= length)

    def play(self, octets, values, pick):
        at = slice(self.offset, self.offset + self.size)
        value = values[self.fv_name] & (1 << 8 * self.size) - 1
        value = value << self.shift if self.shift > 0 else value >> -self.shift
        old = int.from_bytes(octets[at], "big")
        octets[at] = (old & ~self.mask | value & self.mask).to_bytes(self.size, "big")


def ones(octets):
    octets = bytes(octets) + bytes(len(octets) % 2)
    total = sum(word for (word,) in struct.iter_unpack("!H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class STLVmFixIpv4:
    def __init__(self, offset):
        check("offset", isinstance(offset, int))
        self.offset = offset

    def within(self, variables, length):
        check("an IPv4 header within the packet", self.offset + 20 <= length)

    def play(self, octets, values, pick):
        at = self.offset
        check("an IPv4 header of 20 octets at %d" % at, octets[at] == 0x45)
        octets[at + 10 : at + 12] = b"\0\0"
        octets[at + 10 : at + 12] = ones(octets[at : at + 20]).to_bytes(2, "big")


class STLVmFixChecksumHw:
    def __init__(self, l3_offset, l4_offset, l4_type):
        check("l4_type", l4_type == CTRexVmInsFixHwCs.L4_TYPE_UDP)
        check("offsets", isinstance(l3_offset, int) and l4_offset >= l3_offset + 8)
        # What the cards' descriptors have room for: 7 and 9 bits.
        check("lengths", l3_offset < 1 << 7 and l4_offset - l3_offset < 1 << 9)
        self.l3, self.l4 = l3_offset, l4_offset

    def within(self, variables, length):
        check("a UDP header within the packet", self.l4 + 8 <= length)

    def play(self, octets, values, pick):
        version = octets[self.l3] >> 4
        if version == 4:
            STLVmFixIpv4(self.l3).play(octets, values, pick)
        addresses = octets[self.l3 + 12 : self.l3 + 20] if version == 4 else octets[self.l3 + 8 : self.l3 + 40]
        length = int.from_bytes(octets[self.l4 + 4 : self.l4 + 6], "big")
        check("UDP to the packet's end", self.l4 + length <= len(octets))
        octets[self.l4 + 6 : self.l4 + 8] = b"\0\0"
        pseudo = bytes(addresses) + struct.pack("!II", length, 17)
        right = ones(pseudo + octets[self.l4 : self.l4 + length]) or 0xFFFF
        octets[self.l4 + 6 : self.l4 + 8] = right.to_bytes(2, "big")


class STLScVmRaw:
    def __init__(self, list_of_commands=None, cache_size=None):
        self.commands = list_of_commands or []


class STLPktBuilder:
    def __init__(self, pkt=None, vm=None):
        check("a scapy packet", isinstance(pkt, Packet))
        check("a program", isinstance(vm, STLScVmRaw))
        self.octets, self.commands, variables = bytes(pkt), vm.commands, {}
        for command in vm.commands:
            if isinstance(command, STLVmFlowVar):
                check("%s defined twice" % command.name, command.name not in variables)
                variables[command.name] = command
            else:
                command.within(variables, len(self.octets))

    def play(self, pick):
        octets, values = bytearray(self.octets), {}
        for command in self.commands:
            command.play(octets, values, pick)
        return bytes(octets)


class STLTXCont:
    def __init__(self, pps=1.0):
        check("pps", isinstance(pps, (int, float)) and pps > 0)
        self.pps = pps


class STLStream:
    def __init__(self, name=None, packet=None, mode=None):
        check("name", isinstance(name, str))
        check("packet", isinstance(packet, STLPktBuilder))
        check("mode", isinstance(mode, STLTXCont))
        self.name, self.packet, self.mode = name, packet, mode
