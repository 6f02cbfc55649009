"""The launcher's files and the RayJob against Ray's and KubeRay's own rules, without a cloud: .venv/bin/pytest tests/deployment/test_cluster_yaml.py"""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from s2l_ray.recipe.loading import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PINNED = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))
RAY = PINNED.removeprefix("ray==")
LAUNCHER_FILES = ["cluster.yaml", "jobs/cluster-gcp.yaml"]


@pytest.fixture(params=LAUNCHER_FILES)
def cluster(request):
    return yaml.safe_load((ROOT / request.param).read_text())


def commands_of(cluster):
    return [command for key, listed in cluster.items() if key.endswith("_commands") for command in listed]


# --- the launcher ------------------------------------------------------------------------------------


def test_it_fits_rays_schema(cluster):
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)


def test_the_launcher_accepts_it(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert "ray-wheels" not in json.dumps(prepared), "a default would install a nightly build of Ray"


def test_the_images_are_of_the_pinned_ray(cluster):
    types = cluster["available_node_types"]
    assert cluster["docker"]["image"] == f"rayproject/ray:{RAY}-py311-cpu"
    assert types["gpu"]["docker"]["worker_image"] == f"rayproject/ray:{RAY}-py311-gpu"
    assert "--constraint /home/ray/s2l-ray/constraints.txt" in cluster["setup_commands"][0]
    assert "--editable '/home/ray/s2l-ray[all]'" in cluster["setup_commands"][0], "the base trains nothing"


def test_the_dashboard_is_on_loopback_and_the_token_is_wanted(cluster):
    start = cluster["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start and "0.0.0.0" not in json.dumps(cluster)
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]


def test_the_token_travels_as_a_file_and_stands_nowhere(cluster):
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert not [command for command in commands_of(cluster) if re.search("token", command, re.IGNORECASE)]
    assert "RAY_AUTH_TOKEN" not in json.dumps(cluster)


def test_it_costs_one_machine_when_idle(cluster):
    types = cluster["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0} and "min_workers" not in types["head"]
    assert {name: types[name]["min_workers"] for name in ("cpu", "gpu")} == {"cpu": 0, "gpu": 0}
    assert "GPU" not in types["cpu"]["resources"] and types["gpu"]["resources"]["GPU"] == 1
    assert cluster["idle_timeout_minutes"] > 0 and cluster["provider"]["cache_stopped_nodes"] is False
    assert is_spot(types["gpu"]) and not is_spot(types["head"])


def is_spot(node_type):
    config = node_type["node_config"]
    aws = config.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
    return aws or config.get("scheduling", {}).get("provisioningModel") == "SPOT"


def test_what_is_copied_to_the_nodes_is_there_and_enough_to_install(cluster):
    copied = {source for source in cluster["file_mounts"].values() if not source.startswith("~")}
    assert {"pyproject.toml", "constraints.txt", "README.md", "jobs", "s2l_ray"} == copied
    assert all((ROOT / source).exists() for source in copied)


# --- the RayJob --------------------------------------------------------------------------------------

# The fields we use of the custom resource of KubeRay v1.7.0 (ray-operator/config/crd/bases/ray.io_rayjobs.yaml, whose
# 1.4 MB the whole of jobs/rayjob.yaml was validated against), with their types. `*` stands for any key of a mapping.
_RESOURCES = {"requests": {"*": str}, "limits": {"*": str}}
_POD = {"spec": {
    "containers": [{"name": str, "image": str, "resources": _RESOURCES}],
    "nodeSelector": {"*": str},
    "tolerations": [{"key": str, "operator": str, "effect": str}],
    "serviceAccountName": str,
}}
KUBERAY_1_7_0 = {
    "entrypoint": str, "runtimeEnvYAML": str, "submissionMode": str, "backoffLimit": int,
    "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int,
    "rayClusterSpec": {
        "rayVersion": str, "enableInTreeAutoscaling": bool,
        "autoscalerOptions": {"version": str, "idleTimeoutSeconds": int},
        "authOptions": {"mode": str},
        "headGroupSpec": {"serviceType": str, "enableIngress": bool, "rayStartParams": {"*": str}, "template": _POD},
        "workerGroupSpecs": [{"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int,
                              "rayStartParams": {"*": str}, "template": _POD}],
    },
}


def misfits(value, kind, place="spec"):
    """Return what of a value does not fit its fields: one line each."""
    if isinstance(kind, type):
        return [] if type(value) is kind else [f"{place}: {value!r} is no {kind.__name__}"]
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{place}: {value!r} is no list"]
        return [line for number, item in enumerate(value) for line in misfits(item, kind[0], f"{place}[{number}]")]
    if not isinstance(value, dict):
        return [f"{place}: {value!r} is no mapping"]
    found = []
    for key, item in value.items():
        inner = kind.get("*", kind.get(key))
        found += [f"{place}.{key}: no such field"] if inner is None else misfits(item, inner, f"{place}.{key}")
    return found


@pytest.fixture
def job():
    return yaml.safe_load((ROOT / "jobs" / "rayjob.yaml").read_text())


def test_the_rayjob_uses_fields_that_kuberay_has(job):
    assert (job["apiVersion"], job["kind"], set(job)) == ("ray.io/v1", "RayJob", {"apiVersion", "kind", "metadata", "spec"})
    assert misfits(job["spec"], KUBERAY_1_7_0) == []
    assert {"name", "image"} <= set(job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0])


def test_the_check_of_fields_does_bite(job):
    job["spec"]["backOffLimit"] = job["spec"].pop("backoffLimit")
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]["maxReplicas"] = "4"
    assert misfits(job["spec"], KUBERAY_1_7_0) == [
        "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus: 0 is no str",
        "spec.rayClusterSpec.workerGroupSpecs[1].maxReplicas: '4' is no int",
        "spec.backOffLimit: no such field",
    ]


def test_the_rayjob_retries_ends_its_cluster_and_wants_a_token(job):
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec["backoffLimit"] >= 1 and spec["shutdownAfterJobFinishes"] and spec["ttlSecondsAfterFinished"] > 0
    assert cluster["enableInTreeAutoscaling"] and cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["authOptions"] == {"mode": "token"} and "RAY_AUTH_TOKEN" not in json.dumps(job)
    head = cluster["headGroupSpec"]
    assert (head["serviceType"], head["enableIngress"], head["rayStartParams"]) == ("ClusterIP", False, {"num-cpus": "0"})
    assert {group["groupName"]: group["minReplicas"] for group in cluster["workerGroupSpecs"]} == {"cpu": 0, "gpu": 0}


def test_sidecar_mode_has_no_field_that_kuberay_refuses_beside_it(job):
    """ValidateRayJobSpec of KubeRay v1.7.0: no submitter template or configuration, the head's pod not restarted."""
    assert job["spec"]["submissionMode"] == "SidecarMode"
    assert not {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & set(job["spec"])
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].get("restartPolicy", "Never") == "Never"


def test_the_rayjob_runs_a_shipped_recipe_on_a_storage_uri_in_the_images_folder(job):
    program, *words = job["spec"]["entrypoint"].removeprefix("python ").split()
    assert job["spec"]["entrypoint"].startswith("python ") and (ROOT / program).is_file()
    assert load_recipe(words[0], words[1:]).storage.startswith("s3://")
    dockerfile = (ROOT / "jobs" / "Dockerfile").read_text()
    folder = re.search(r"^WORKDIR (.*)$", dockerfile, re.MULTILINE)[1]
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"]) == {"working_dir": f"local://{folder}"}


def test_the_rayjob_and_its_image_are_of_the_pinned_ray(job):
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    assert f"FROM rayproject/ray:{RAY}-py311-gpu" in (ROOT / "jobs" / "Dockerfile").read_text()
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert images == {f"registry.example.com/s2l:{RAY}"}, "one image: head and workers must agree on every version"
