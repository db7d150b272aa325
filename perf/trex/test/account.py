"""ndr.py's account of a real router's counters: account.py DIRECTION SENT RECEIVED BEFORE AFTER.

BEFORE and AFTER are files with what `altitude show counters --json` and `altitude show ports --json` said, one after the
other.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True

import ndr


class Said(ndr.Altitude):
    def __init__(self, path):
        with open(path) as said:
            text = said.read()
        counters, end = json.JSONDecoder().raw_decode(text)
        self.said = {"counters": counters, "ports": json.loads(text[end:])}

    def show(self, what):
        return self.said[what]


direction, sent, received, before, after = sys.argv[1:]
account = ndr.Account(direction == "decap", int(sent), int(received), Said(before).read(), Said(after).read())
print(json.dumps({"unaccounted": account.unaccounted, "drops": account.drops, "taken": account.taken,
                  "given": account.given, "before": account.cards_in, "behind": account.cards_out}))
