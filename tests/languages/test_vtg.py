"""The R package: R's own check of it with all its tests, and its pages as roxygen makes them."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.flows.network import PASSWORD, ROOT
from tests.languages.conftest import EXAMPLES, Study, needs_image, rscript

PACKAGE = ROOT / "client" / "r"
pytestmark = pytest.mark.row("D05", "M26")


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.envoy
@pytest.mark.xdist_group("languages")
def test_r_finds_nothing_wrong_with_it(study: Study, tmp_path: Path) -> None:
    """Its tests go to a live network, through the user proxy and without it."""
    rscript()
    needs_image("python")
    live = {
        "collaboration": study.network.collaboration_id,
        "organizations": [site.organization_id for site in study.network.sites],
        "image": EXAMPLES["python"],
        "average": study.pooled["age"].mean(),
        "url": study.network.url,
        "ca_file": str(study.network.ca_file),
        "password": PASSWORD,
    }
    # It asks for the list of all packages; this one is empty, and on this machine.
    (tmp_path / "src" / "contrib").mkdir(parents=True)
    (tmp_path / "src" / "contrib" / "PACKAGES").touch()
    (tmp_path / "profile.R").write_text(f'options(repos = c(CRAN = "file://{tmp_path}"))\n')
    run("R", "CMD", "build", str(PACKAGE), folder=tmp_path)
    (built,) = tmp_path.glob("vtg_*.tar.gz")
    said = run(
        "R", "CMD", "check", "--no-manual", "--no-build-vignettes", built.name, folder=tmp_path,
        R_PROFILE_USER=str(tmp_path / "profile.R"), _R_CHECK_FORCE_SUGGESTS_="false", NOT_CRAN="true",
        VTG_LIVE=json.dumps(live), VANTAGE6_PROXY=str(study.proxy_file),
    )  # fmt: skip
    assert "Status: OK" in said, said
    tests = (tmp_path / "vtg.Rcheck" / "tests" / "testthat.Rout").read_text()
    assert "[ FAIL 0 | WARN 0 | SKIP 0 |" in tests, tests


def test_its_pages_are_those_of_the_code(tmp_path: Path) -> None:
    program = rscript()
    asked = subprocess.run([program, "-e", "packageVersion('roxygen2')"], capture_output=True, check=False)
    if asked.returncode:
        missing("r", "roxygen2 is not installed")
    copy = shutil.copytree(PACKAGE, tmp_path / "vtg")
    shutil.rmtree(copy / "man")
    run(program, "-e", "roxygen2::roxygenise()", folder=copy)
    pages = [f"man/{path.name}" for path in (copy / "man").iterdir()]
    _, different, unknown = filecmp.cmpfiles(PACKAGE, copy, ["NAMESPACE", *pages], shallow=False)
    assert not different + unknown, "run roxygen2::roxygenise() in client/r"
    assert len(pages) == len(list((PACKAGE / "man").iterdir()))
