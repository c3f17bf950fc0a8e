"""Three languages ask, three languages answer: the average over three sites, encrypted from end to end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flows.network import ROOT
from tests.languages.conftest import EXAMPLES, Study, needs_image, node, run_r

pytestmark = pytest.mark.row("D05", "M34", "M46")
LANGUAGES = tuple(EXAMPLES)


def from_python(study: Study, language: str, request: pytest.FixtureRequest) -> Any:
    asked = study.task(language)
    client = study.network.client
    task = client.task.create(
        asked["collaboration_id"], asked["organizations"], asked["image"], asked["input"], databases=asked["databases"]
    )
    (result,) = client.results(task)
    assert result.completed, result
    return result.value


def from_javascript(study: Study, language: str, request: pytest.FixtureRequest) -> Any:
    program = ROOT / "tests" / "js" / "client" / "average.mjs"
    command = [node(), str(program), str(study.proxy_file), json.dumps(study.task(language))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {"task", "result"} <= set(said["kinds"])
    (result,) = said["values"]
    assert result["value"], result
    return result["value"]


def from_r(study: Study, language: str, request: pytest.FixtureRequest) -> Any:
    library: Path = request.getfixturevalue("vtg")
    asked = study.task(language)
    code = f"""
        library(vtg)
        client <- vtg_proxy()
        task <- create_task(client, {asked["collaboration_id"]}, {asked["organizations"][0]}, "{asked["image"]}",
                            "average", "age")
        answers <- results(client, task)
        if (is.null(answers[[1]]$value)) stop(answers[[1]]$reason, answers[[1]]$message)
        cat(jsonlite::toJSON(answers[[1]]$value, auto_unbox = TRUE, digits = NA))
    """
    return json.loads(run_r(code, R_LIBS=str(library), VANTAGE6_PROXY=str(study.proxy_file)))


CLIENTS: dict[str, Callable[[Study, str, pytest.FixtureRequest], Any]] = {
    "python": from_python,
    "javascript": from_javascript,
    "r": from_r,
}


@pytest.mark.envoy
@pytest.mark.xdist_group("languages")
@pytest.mark.parametrize("algorithm", LANGUAGES)
@pytest.mark.parametrize("client", LANGUAGES)
def test_every_language_calls_every_other(
    study: Study, client: str, algorithm: str, request: pytest.FixtureRequest
) -> None:
    check(study, client, algorithm, request)


@pytest.mark.engine
@pytest.mark.envoy
@pytest.mark.xdist_group("engine")
@pytest.mark.parametrize(("client", "algorithm"), [("javascript", "r"), ("r", "javascript")])
def test_their_containers(docker_study: Study, client: str, algorithm: str, request: pytest.FixtureRequest) -> None:
    check(docker_study, client, algorithm, request)


def check(study: Study, client: str, algorithm: str, request: pytest.FixtureRequest) -> None:
    needs_image(algorithm)
    # So the clients and sites take nothing that is not sealed; tests/client has what they refuse.
    assert study.network.client.collaboration.get(study.network.collaboration_id).encrypted
    assert CLIENTS[client](study, algorithm, request) == {
        "average": pytest.approx(study.pooled["age"].mean(), rel=1e-12),
        "count": len(study.pooled),
        "sites": [f"hospital {i}" for i in (1, 2, 3)],
    }
