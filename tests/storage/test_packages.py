"""What other packages offer: .venv/bin/pytest tests/storage/test_packages.py"""

import subprocess
import sys

from s2l_ray.storage.artifacts import package_versions
from s2l_ray.storage.packages import offering_packages, offers


def told():
    return [(offer.group, offer.name, str(offer)) for offer in offers()]


def test_without_any_nothing_is_offered(installed):
    assert offers() == () and offering_packages() == {}


def test_offers_are_in_order_and_nothing_is_imported(installed):
    installed("s2l-b", {"selectors": {"z": "not_there:Z", "a": "not_there:A"}}, version="2.1")
    installed("s2l-a", {"metrics": {"m": "nor_this"}, "shapes": {}})
    assert told() == [("s2l_ray.metrics", "m", "s2l-a 1.0"), ("s2l_ray.selectors", "a", "s2l-b 2.1"),
                      ("s2l_ray.selectors", "z", "s2l-b 2.1")]


def test_of_a_package_that_is_there_twice_the_first_on_the_path_counts(installed):
    installed("s2l_a.b", {"selectors": {"old": "m:X"}})
    installed("S2L-a-b", {"selectors": {"new": "m:X"}}, version="2.0")
    assert told() == [("s2l_ray.selectors", "new", "S2L-a-b 2.0")]


def test_one_that_cannot_be_read_is_named_and_the_others_stand(installed, caplog):
    sites = [installed(f"s2l-{name}", {"selectors": {"x": "m:X"}}) for name in ("broken", "binary", "whole")]
    next(sites[0].glob("*.dist-info")).joinpath("entry_points.txt").write_text("[s2l_ray.selectors]\nno equals sign\n")
    next(sites[1].glob("*.dist-info")).joinpath("entry_points.txt").write_bytes(b"[s2l_ray.selectors]\n\xff = m:X\n")
    assert told() == [("s2l_ray.selectors", "x", "s2l-whole 1.0")]
    for name in ("broken", "binary"):
        assert f"s2l_{name}-1.0.dist-info: its entry points cannot be read" in caplog.text


def test_their_versions_are_among_those_that_nodes_must_share_and_manifests_keep(installed):
    before = package_versions()
    installed("s2l-b", {"selectors": {"b": "m:B"}}, version="2.1")
    installed("elsewhere", {})
    assert package_versions() == {**before, "s2l-b": "2.1"}


def test_help_does_not_look_for_packages():
    program = ("import importlib.metadata as m\n"
               "def refuse(*_, **__): raise AssertionError('looked')\n"
               "m.distributions = m.entry_points = refuse\n"
               "from s2l_ray.cli.main import main\nmain(['export', '--help'])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "axolotl" in done.stdout, done.stderr
