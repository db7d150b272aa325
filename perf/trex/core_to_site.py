"""TRex profile: LISP data packets from other sites. `start -f core_to_site.py -p 1 -t --help` shows how."""

import stl_profile


def register():
    return stl_profile.Profile("core_to_site.py", decap=True)
