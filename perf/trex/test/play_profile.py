"""play_profile.py FILE TUNABLES: loads a profile as TRex does, prints its packets as `lisp_streams.py packets` does."""

import os
import sys

TEST = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(TEST, "stub"))
sys.dont_write_bytecode = True

path = sys.argv[1]
sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
module = __import__(os.path.basename(path).split(".")[0])

# TRex shows these in its console, and refuses a profile that has some without a default.
function = module.register().get_streams
assert len(function.__defaults__) == function.__code__.co_argcount - 1

streams = module.register().get_streams(direction=0, port_id=0, tunables=sys.argv[2:])
names = [stream.name for stream in streams]
assert len(set(names)) == len(names), names
whole = sum(stream.mode.pps for stream in streams)
for stream in streams:
    for end, pick in (("first", lambda of: of.low), ("last", lambda of: of.high)):
        print("%s/%s %.6f %s" % (stream.name, end, stream.mode.pps / whole, stream.packet.play(pick).hex()))
