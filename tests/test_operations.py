"""Files for those who run the service: linted where the tools are, and held to what they promise."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from focus_detr.cli.app import app

OPERATIONS = Path(__file__).parents[1] / "operations"
DOCKERFILE = (OPERATIONS / "Dockerfile").read_text()
TEXT = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", "")
FINAL = TEXT[TEXT.rindex("\nFROM") :]


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read_string((OPERATIONS / "focus-detr.service").read_text())
    return parser


def test_the_container_file_passes_its_linter():
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if linter is None:
        pytest.skip("hadolint is not installed (extra dev)")
    done = subprocess.run([linter, OPERATIONS / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_container_is_not_root_and_says_how_it_is():
    (user,) = re.findall(r"^USER (\S+)", FINAL, re.MULTILINE)
    assert all(number.isdecimal() and int(number) > 0 for number in user.split(":"))
    # Nothing is installed after the build, and nothing of it is the user's to write.
    assert "chown" not in FINAL and "pip" not in FINAL
    assert re.search(r"^HEALTHCHECK .*--start-period=\d+s.*healthz", FINAL, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in FINAL and '"0.0.0.0"' in FINAL


def test_an_image_is_made_of_pinned_versions_and_of_nothing_else():
    assert "PIP_CONSTRAINT=/source/constraints.txt" in DOCKERFILE
    ignored = (OPERATIONS / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    named = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE) for name in line.split()
    }
    assert named == {line[1:] for line in ignored if line.startswith("!")}
    assert all((OPERATIONS.parent / name).exists() for name in named)


def test_the_composition_gives_the_container_as_little_as_it_needs():
    service = yaml.safe_load((OPERATIONS / "compose.yaml").read_text())["services"]["focus-detr"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["mem_limit"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "privileged" not in service and "environment" not in service  # keys come as a secret
    assert (OPERATIONS / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = (OPERATIONS / "focus-detr.service").read_text()
    file = tmp_path / "focus-detr.service"
    file.write_text(text.replace("/opt/focus-detr/bin/focus-detr", shutil.which("true")))
    done = subprocess.run([analyze, "verify", file], capture_output=True, text=True)
    assert done.returncode == 0 and "focus-detr.service:" not in done.stderr, done.stderr


def test_the_unit_starts_it_anew_and_lets_it_finish():
    said = unit()["Service"]
    assert said["Restart"] == "always" and said["SuccessExitStatus"] == "143"
    assert said["DynamicUser"] == said["NoNewPrivileges"] == "yes" and said["ProtectSystem"] == "strict"
    assert int(said["TimeoutStopSec"]) > 30  # the grace of serve


@pytest.mark.parametrize(
    "command",
    [
        *re.findall(r"^(?:ENTRYPOINT|CMD) \[(.*)\]$", FINAL, re.MULTILINE),
        ", ".join(
            yaml.safe_load((OPERATIONS / "compose.yaml").read_text())["services"]["focus-detr"]["command"]
        ),
        unit()["Service"]["ExecStart"],
    ],
)
def test_commands_have_options_that_there_are(command):
    known = {name for each in get_command(app).commands["serve"].params for name in each.opts}
    assert set(re.findall(r"--[\w-]+", command)) <= known
