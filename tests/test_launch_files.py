"""Launch files for clusters: linted, valid by Kubernetes' own schemas, and of options that exist."""

import copy
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

OPERATIONS = Path(__file__).parents[1] / "operations"
SBATCH = OPERATIONS / "slurm" / "train.sbatch"
MANIFESTS = OPERATIONS / "kubernetes"


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def test_the_batch_file_passes_its_linter():
    linter = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if linter is None:
        pytest.skip("shellcheck is not installed (extra dev)")
    done = subprocess.run([linter, SBATCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_manifests_are_valid():
    kubernetes = pytest.importorskip("kubernetes_validate")
    plain = documents("train.yaml")
    assert [each["kind"] for each in plain] == ["Service", "Job"]
    (ray,) = documents("train-ray.yaml")
    groups = [
        ray["spec"]["rayClusterSpec"]["headGroupSpec"],
        *ray["spec"]["rayClusterSpec"]["workerGroupSpecs"],
    ]
    # KubeRay's own kinds are none of Kubernetes: what they start is.
    pods = [{"apiVersion": "v1", "kind": "Pod", **group["template"]} for group in groups]
    for document in plain + pods:
        kubernetes.validate(document, kubernetes.latest_version(), strict=True)
    wrong = copy.deepcopy(plain[1])
    wrong["spec"]["paralelism"] = 2
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(wrong, kubernetes.latest_version(), strict=True)


def test_numbers_of_nodes_agree():
    service, job = documents("train.yaml")
    container = job["spec"]["template"]["spec"]["containers"][0]
    nodes = {each["name"]: each["value"] for each in container["env"]}["NODES"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(nodes)
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    (ray,) = documents("train-ray.yaml")
    (group,) = ray["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == int(re.search(r"--nodes (\d+)", ray["spec"]["entrypoint"])[1])


def test_processes_are_given_the_time_to_write_a_checkpoint():
    _, job = documents("train.yaml")
    (ray,) = documents("train-ray.yaml")
    (group,) = ray["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    grace = [
        each["spec"]["terminationGracePeriodSeconds"] for each in (job["spec"]["template"], group["template"])
    ]
    grace.append(int(re.search(r"--signal=TERM@(\d+)", SBATCH.read_text())[1]))
    for text in (SBATCH.read_text(), (MANIFESTS / "train.yaml").read_text()):
        assert int(re.search(r"--shutdown-timeout (\d+)", text)[1]) < min(grace)


@pytest.mark.parametrize("variables", [{"SLURM_GPUS_ON_NODE": "4"}, {}])
def test_the_batch_file_starts_torchrun_with_options_it_knows(variables, tmp_path):
    """With srun and scontrol of our own, which show what they were asked."""
    for name, text in (("srun", 'printf "%s\\n" "$@"'), ("scontrol", "printf 'node7\\nnode8\\n'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    run = tmp_path / "run"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NAME": "focus-detr", "OUTPUT": str(run)}
    environment |= {"SLURM_JOB_ID": "31", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[7-8]"}
    environment["SLURM_CPUS_PER_TASK"] = "12"

    def asked() -> list[str]:
        done = subprocess.run(
            ["bash", SBATCH, "my data", "--set", "epochs=3"],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        said = done.stdout.splitlines()
        assert said[said.index("--cpus-per-task") + 1] == "12"
        return said[said.index("torchrun") + 1 :]

    options = get_args_parser().parse_args(asked())
    assert (options.nnodes, options.nproc_per_node) == ("2", variables.get("SLURM_GPUS_ON_NODE", "8"))
    assert options.rdzv_endpoint == "node7:20031" and options.shutdown_timeout == 240
    training = [options.training_script, *options.training_script_args]
    assert training == ["focus_detr", "train", "my data", "--output", str(run), "--set", "epochs=3"]
    run.mkdir()
    (run / "recipe.yaml").touch()
    assert "--resume" in asked()


def test_nodes_of_ray_start_torchrun_with_options_it_knows(tmp_path):
    spec = importlib.util.spec_from_file_location("train_on_ray", MANIFESTS / "train_on_ray.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = ["/data", "--output", str(tmp_path)]
    command = module.torchrun(1, 2, "gpu", "10.0.0.7", 29500, run)
    options = get_args_parser().parse_args(command[3:])
    assert (options.node_rank, options.nnodes, options.master_addr) == (1, "2", "10.0.0.7")
    assert options.training_script_args == ["train", *run]
    (tmp_path / "recipe.yaml").touch()
    assert module.torchrun(1, 2, "gpu", "10.0.0.7", 29500, run)[-1] == "--resume"
