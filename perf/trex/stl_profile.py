"""From the streams of lisp_streams to TRex's: the same packets, with the field engine writing what varies.

Loaded by the profiles only; needs TRex's Python library, which is on the path wherever TRex loads a profile.
"""

try:
    from trex.stl import api as stl
except ImportError:
    # The name it had in older versions.
    from trex_stl_lib import api as stl

import lisp_streams


def program(stream):
    """The field engine's instructions for what varies in a stream."""
    instructions = []
    for variable in stream.variables:
        instructions.append(
            stl.STLVmFlowVar(
                name=variable.name,
                min_value=variable.low,
                max_value=variable.high,
                size=variable.octets,
                op="random",
            )
        )
    sizes = {variable.name: variable.octets for variable in stream.variables}
    for write in stream.writes:
        whole = write.octets == sizes[write.variable] and write.shift == 0 and write.mask == (1 << 8 * write.octets) - 1
        if whole:
            instructions.append(stl.STLVmWrFlowVar(fv_name=write.variable, pkt_offset=write.offset))
        else:
            instructions.append(
                stl.STLVmWrMaskFlowVar(
                    fv_name=write.variable,
                    pkt_offset=write.offset,
                    pkt_cast_size=write.octets,
                    mask=write.mask,
                    shift=write.shift,
                )
            )
    # Both at once where the card does it: it makes the IPv4 checksum good, too.
    for l3, l4 in stream.udp:
        instructions.append(
            stl.STLVmFixChecksumHw(l3_offset=l3, l4_offset=l4, l4_type=stl.CTRexVmInsFixHwCs.L4_TYPE_UDP)
        )
    if not stream.udp:
        for offset in stream.ipv4:
            instructions.append(stl.STLVmFixIpv4(offset=offset))
    return stl.STLScVmRaw(instructions)


class Profile(object):
    """One direction. TRex asks it for its streams; rates are shares, and scaled by `start -m` or ndr.py."""

    def __init__(self, name, decap):
        self.name, self.decap = name, decap

    def get_streams(self, direction=0, tunables=(), **kwargs):
        if not tunables:
            # Older versions hand tunables over as keywords.
            given = [(key, value) for key, value in kwargs.items() if key != "port_id"]
            tunables = [word for key, value in given for word in ("--" + key.replace("_", "-"), str(value))]
        plan = lisp_streams.Plan(lisp_streams.parser(self.name).parse_args(list(tunables)))
        # A second, of a million packets; what counts is how they are to each other.
        return [
            stl.STLStream(
                name=stream.name,
                packet=stl.STLPktBuilder(pkt=stream.packet, vm=program(stream)),
                mode=stl.STLTXCont(pps=max(stream.share * 1e6, 1e-3)),
            )
            for stream in lisp_streams.streams(plan, self.decap)
        ]
