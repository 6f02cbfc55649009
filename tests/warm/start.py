"""Ray's command line, for clusters that tests start: `start.py start --head ...`; its nodes fork their workers.

Without it, each worker of such a cluster takes some 10 s of a core to import its libraries, as on a user's cluster.
"""

from ray.scripts.scripts import main

from tests.warm.setting import forked_workers

if __name__ == "__main__":
    with forked_workers():
        main()
