"""The entry point for a Ray job: the whole line of a recipe on the cluster that the job runs on.

    python jobs/pipeline.py [--sweep] RECIPE [key.path=value ...]

`s2l submit RECIPE` sends it, with the project, to a cluster; jobs/rayjob.yaml runs it on Kubernetes. With --sweep it is
`s2l sweep` instead of `s2l run`. Run it again after a failure: what is finished in the recipe's storage is reused.
"""

import sys
from pathlib import Path

# `python jobs/pipeline.py` puts jobs/ first on the path; the package lies beside it in the working directory.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from s2l_ray.cli.main import main

if __name__ == "__main__":
    sweep = sys.argv[1:2] == ["--sweep"]
    arguments = sys.argv[2:] if sweep else sys.argv[1:]
    if not arguments:
        sys.exit(__doc__)
    sys.argv[1:] = ["sweep" if sweep else "run", *arguments]  # as the run's record keeps it
    main()
