"""TRex profile: what hosts of the site send to other sites. `start -f site_to_core.py -p 0 -t --help` shows how."""

import stl_profile


def register():
    return stl_profile.Profile("site_to_core.py", decap=False)
