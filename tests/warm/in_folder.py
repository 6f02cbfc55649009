"""Become a worker that imports from a path first, as PYTHONPATH has it: `in_folder.py PATH WORKER.py ...`."""

import os
import runpy
import sys

if __name__ == "__main__":
    path, *sys.argv = sys.argv[1:]
    os.environ["PYTHONPATH"] = path
    sys.path[:0] = [os.path.dirname(sys.argv[0]), *path.split(os.pathsep)]
    runpy.run_path(sys.argv[0], run_name="__main__")
