"""The code in the documents for readers of R, JavaScript and others: what is shown is run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing
from tests.flows.network import PASSWORD, ROOT, Process
from tests.languages.conftest import EXAMPLES, Study, needs_image, node, rscript

if TYPE_CHECKING:
    from docker import DockerClient

FOLDERS = {"javascript": "average-js", "r": "average-r"}


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def example(language: str) -> Path:
    return ROOT / "examples" / "algorithms" / FOLDERS[language]


def run(*command: str, folder: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.envoy
@pytest.mark.xdist_group("languages")
def test_a_first_analysis_in_r(study: Study, tmp_path: Path) -> None:
    rscript()
    needs_image("r")
    install, _ = blocks("first-analysis-r.md", "sh")
    run("sh", "-ec", install, R_LIBS=str(tmp_path))
    (program,) = blocks("first-analysis-r.md", "r")
    said = run("Rscript", "--vanilla", "-e", program, R_LIBS=str(tmp_path), VANTAGE6_PROXY=str(study.proxy_file))
    average = study.pooled["age"].mean()
    assert f"the average age is {average:.5f}".rstrip("0") in said
    assert f"over {len(study.pooled)} people" in said
    assert "encrypted by the user proxy" in said


@pytest.mark.envoy
@pytest.mark.xdist_group("languages")
def test_the_readme_of_the_r_package(study: Study, vtg: Path) -> None:
    needs_image("r")
    (program,) = blocks("../client/r/README.md", "r")
    said = run("Rscript", "--vanilla", "-e", program, R_LIBS=str(vtg), VANTAGE6_PROXY=str(study.proxy_file))
    assert f"{study.pooled['age'].mean():.5f}".rstrip("0") in said


@pytest.mark.envoy
@pytest.mark.xdist_group("languages")
def test_the_proxy_is_started(study: Study, tmp_path: Path) -> None:
    """As the page has it: it says where it is, for whom, and what it does."""
    (text,) = blocks("first-analysis-r.md", "console")
    log_in, logged_in, start, *shown = text.strip().splitlines()
    network = study.network
    environment = {
        "XDG_CONFIG_HOME": str(tmp_path / "config"), "VANTAGE6_CA_FILE": str(network.ca_file),
        "VANTAGE6_KNOWN_ORGANIZATIONS": str(tmp_path / "known.json"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    shutil.copy(network.sites[0].key, tmp_path / "private_key.pem")
    command = log_in.removeprefix("$ ").replace("https://server.example", network.url)
    who = {"VANTAGE6_USERNAME": "researcher", "VANTAGE6_PASSWORD": PASSWORD}
    answer = run("sh", "-ec", f"{command} 2>&1", folder=tmp_path, **environment, **who)
    names = [f"{name}={value}" for name, value in environment.items()]
    process = Process("proxy-of-the-page", ["env", *names, *start.removeprefix("$ ").split()], tmp_path)
    try:
        process.wait_for("address and token")
        said = process.log.read_text()
    finally:
        assert process.stop() == 0
    own = (network.url, "researcher", str(tmp_path / "config"))
    there = [general(line, *own) for line in [answer, *said.splitlines()]]
    for line in [logged_in, *shown]:
        assert general(line, "https://server.example", "alice", "/home/alice/.config") in there


def general(line: str, server: str, user: str, folder: str) -> str:
    """Without what differs between the page and this machine; long lines may be broken anywhere."""
    for own, name in ((server, "SERVER"), (folder, "FOLDER"), (user, "USER")):
        line = line.replace(own, name)
    return re.sub(r"\s+|127\.0\.0\.1:\d+", "", line)


@pytest.mark.envoy
@pytest.mark.xdist_group("languages")
def test_a_first_analysis_from_javascript(study: Study) -> None:
    program = node()
    needs_image("javascript")
    (code,) = blocks("first-analysis-r.md", "javascript")
    said = run(program, "--input-type=module", "--eval", code, VANTAGE6_PROXY=str(study.proxy_file))
    assert f'json.{{"average":{study.pooled["age"].mean()}' in said


@pytest.mark.envoy
@pytest.mark.xdist_group("languages")
def test_a_first_analysis_from_a_shell(study: Study) -> None:
    if shutil.which("curl") is None:
        missing("curl", "it is not installed")
    _, code = blocks("first-analysis-r.md", "sh")
    said = run("sh", "-euc", code, VANTAGE6_PROXY=str(study.proxy_file))
    assert '"name":"study"' in said.replace(": ", ":")
    assert EXAMPLES["python"] in said


@pytest.mark.parametrize("language", FOLDERS)
def test_what_is_shown_of_the_algorithm_is_the_algorithm(language: str) -> None:
    """Which the tests of the matrix run."""
    folder = example(language)
    code = "".join(path.read_text() for path in [*folder.glob("average.*"), folder / "Dockerfile"])
    shown = [block for kind in (language, "dockerfile") for block in blocks(f"write-algorithm-{language}.md", kind)]
    assert len(shown) == 3
    assert all(block in code for block in shown)


@pytest.mark.parametrize("language", FOLDERS)
def test_an_algorithm_is_tried_without_a_network(language: str, tmp_path: Path) -> None:
    node() if language == "javascript" else rscript()
    needs_image(language)  # Its packages are there then, too.
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (code,) = blocks(f"write-algorithm-{language}.md", "sh")
    (answer,) = blocks(f"write-algorithm-{language}.md", "text")
    assert run("sh", "-euc", code, folder=tmp_path) == answer.strip()


def test_a_container_in_r_writes_values_as_they_are() -> None:
    file = example("r") / "container.R"
    values = "list(NULL, list(), list(x = NULL), 0.1 + 0.2, 1 / 3, c(1, NA), c(NA, 1L), 'é', I('x'))"
    code = f'source("{file}"); for (value in {values}) cat(rawToChar(serialize_json(value)), "\n")'
    said = run(rscript(), "--vanilla", "-e", code).splitlines()
    wanted = [None, [], {"x": None}, 0.1 + 0.2, 1 / 3, [1, None], [None, 1], "é", ["x"]]
    assert [json.loads(line.removeprefix("json.")) for line in said] == wanted


@pytest.mark.engine
@pytest.mark.xdist_group("engine")
@pytest.mark.parametrize("language", FOLDERS)
def test_an_image_is_built_by_its_dockerfile(
    docker_engine: DockerClient, images: None, language: str, tmp_path: Path
) -> None:
    needs_image(language)
    folder = shutil.copytree(example(language), tmp_path / "context")
    shutil.copy(ROOT / "protos/gen/vantage6/api/v1/descriptors.binpb", folder)
    image, _ = docker_engine.images.build(path=str(folder), network_mode="none", rm=True)
    data = tmp_path / "data"
    data.mkdir()
    (data / "table.csv").write_text("age\n1\n2\n3\n4\n5.5\n")
    (data / "input").write_text('json.{"method":"partial_average","args":["age"]}')
    (data / "output").touch()
    (data / "output").chmod(0o666)
    data.chmod(0o755)
    variables = {"INPUT_FILE": "/mnt/input", "OUTPUT_FILE": "/mnt/output", "DATABASE_URI": "/mnt/table.csv"}
    docker_engine.containers.run(
        str(image.id), environment=variables, volumes={str(data): {"bind": "/mnt", "mode": "rw"}}, remove=True,
        network_mode="none", read_only=True, tmpfs={"/tmp": ""},
    )  # fmt: skip
    docker_engine.images.remove(str(image.id), force=True)
    assert (data / "output").read_text() == 'json.{"sum":15.5,"count":5}'
