"""cluster.yaml against Ray's own checks, without a cloud: .venv/bin/pytest tests/test_cluster_yaml.py"""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_it_fits_rays_schema(cluster):
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)


def test_the_launcher_accepts_it(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_it_is_safe_and_cheap_by_default(cluster):
    commands = " ".join(cluster["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in commands and "0.0.0.0" not in commands
    assert cluster["available_node_types"]["head"]["resources"]["CPU"] == 0
    assert cluster["available_node_types"]["gpu"]["min_workers"] == 0
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))
    assert cluster["docker"]["image"].split(":")[1].startswith(pinned.removeprefix("ray=="))
