"""The manifest for Kubernetes: its syntax, and that what it names is there."""

import importlib
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from blemish.cli import app
from blemish.fleet.serve import Serving

yaml = pytest.importorskip("yaml")
MANIFEST = Path(__file__).parents[2] / "deploy/kuberay.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """By kind."""
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))}


def test_every_kind_is_there_once_and_shares_a_volume(objects: dict[str, Any]) -> None:
    assert list(objects) == ["PersistentVolumeClaim", "RayCluster", "RayJob", "RayService"]
    assert {objects[kind]["apiVersion"] for kind in ("RayCluster", "RayJob", "RayService")} == {"ray.io/v1"}
    claim = objects["PersistentVolumeClaim"]["metadata"]["name"]
    clusters = [objects["RayCluster"]["spec"], objects["RayService"]["spec"]["rayClusterConfig"]]
    for cluster in clusters:
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for pod in (group["template"]["spec"] for group in groups):
            assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim
            (container,) = pod["containers"]
            assert container["volumeMounts"][0]["mountPath"] == "/data"
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
            assert container["resources"]["limits"] == container["resources"]["requests"]
    project = tomllib.loads((MANIFEST.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (ray,) = [one for one in project["optional-dependencies"]["fleet"] if one.startswith("ray[")]
    assert all(f"=={cluster['rayVersion'].rpartition('.')[0]}.*" in ray for cluster in clusters)


def test_the_job_is_a_command_with_options_it_has(objects: dict[str, Any]) -> None:
    job, cluster = objects["RayJob"]["spec"], objects["RayCluster"]["metadata"]["name"]
    assert job["clusterSelector"] == {"ray.io/cluster": cluster}
    words = shlex.split(job["entrypoint"])
    assert words[:3] == ["blemish", "fleet", "train"]
    command = typer.main.get_command(app).commands["fleet"].commands["train"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options
    assert f"{cluster}-head-svc:6379" in words


def test_the_service_names_what_is_there(objects: dict[str, Any]) -> None:
    (served,) = yaml.safe_load(objects["RayService"]["spec"]["serveConfigV2"])["applications"]
    module, _, name = served["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert set(served["args"]) <= set(Serving._fields)
    worker = objects["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    (container,) = worker["template"]["spec"]["containers"]
    assert served["args"]["replicas"] * served["args"]["threads"] <= int(container["resources"]["limits"]["cpu"])
