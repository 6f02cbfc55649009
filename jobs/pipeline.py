"""The entry point for a Ray job: the whole line of a recipe on the cluster that the job runs on.

    ray job submit --working-dir . -- python jobs/pipeline.py RECIPE [key.path=value ...]

Submit it again after a failure: what is finished in the recipe's storage is reused.
"""

import sys
from pathlib import Path

# `python jobs/pipeline.py` puts jobs/ first on the path; the package lies beside it in the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from s2l_ray.cli import main

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(["run", *sys.argv[1:]])
