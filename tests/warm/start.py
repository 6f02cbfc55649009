"""Ray's command line, for clusters that tests start: `start.py start --head ...`; its nodes fork their workers.

Without it, each worker of such a cluster takes some 10 s of a core to import its libraries, as on a user's cluster.
"""

import os
from pathlib import Path

from ray.scripts.scripts import main

from s2l_ray.execution.ray_internals import worker_set_up
from s2l_ray.execution.warm_stub import SOCKET

if __name__ == "__main__":
    if SOCKET in os.environ:  # it is not where lines are counted: forks do not count theirs
        with worker_set_up(Path(__file__).with_name("stub.py")):
            main()
    else:
        main()
