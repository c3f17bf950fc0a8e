"""`vnode check` and `vnode start` with everything that can be wrong: each has its words, its fix and its exit code.

The page of symptoms says the same: docs/troubleshooting.md is compared with what was really printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node import faults, provoked
from tests.node.faulty import Said, Site, one_site
from tests.node.provoked import FAULTS, nothing
from tests.node.runtimes.registry import token_registry
from vantage6.common.commands import Code
from vantage6.node import doctor
from vantage6.node.doctor_runtime import _engine_version, _judged

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with one_site(tmp_path) as made:
        yield made


_said: dict[str, Said] = {}


@pytest.mark.row("M24")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_has_its_words_its_fix_and_its_code(site: Site, fault: Callable[[Site], Said]) -> None:
    code, words = FAULTS[fault]
    said = _said[fault.__name__] = fault(site)
    assert re.search(words, said.text, re.DOTALL), said.text
    assert said.code == code, said.text


def test_each_kind_of_bad_input_has_a_code_of_its_own() -> None:
    kinds = (provoked.no_yaml, provoked.misspelt, provoked.file_gone, provoked.no_permission, provoked.port_taken,
             provoked.no_engine, provoked.server_down, provoked.wrong_api_key, provoked.clock, provoked.full_disk,
             provoked.second_start, provoked.nothing_to_stop)  # fmt: skip
    assert len({FAULTS[kind][0] for kind in kinds}) == len(kinds)


def test_a_site_in_order_is_ready(site: Site) -> None:
    said = site.check()
    assert said.code == Code.OK, said.text
    for what in ("configuration", "task folder", "log folder", "data folder", "database default", "policy", "server",
                 "clock", "API key", "key pair"):  # fmt: skip
        assert re.search(rf"^ok +{what}: ", said.text, re.MULTILINE), what
    plain = json.loads(site.run("check", "--json", "--config", str(site.write())).text.split("\n[", 1)[0])
    assert plain["good"]
    assert {"what", "outcome", "detail", "fix", "kind"} == set(plain["findings"][0])


def test_a_registry_that_takes_the_log_in_is_said(site: Site) -> None:
    site.patch.setattr(doctor, "check_runtime", nothing)
    made = site.stack.enter_context(token_registry(site.folder))
    made.answer = lambda path, authorization: (200, {}, {})  # type: ignore[method-assign]
    options = {"registries": {made.host: {"ca_file": str(made.ca)}}}
    assert f"ok       registry {made.host}" in site.check(runtime="docker", runtime_options=options).text


def test_a_proxy_that_lets_through_is_named(site: Site) -> None:
    port = site.stack.enter_context(faults.listening(faults.says(b"HTTP/1.1 200 OK\r\n\r\n")))
    site.patch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    said = site.check(server_url="https://server.example")
    assert "ok       proxy: 127.0.0.1 is 127.0.0.1, the proxy to server.example:443" in said.text
    assert "TLS: server.example does not answer with TLS" in said.text  # It was only the proxy that answered.


def test_an_old_engine_is_named() -> None:
    assert _engine_version("19.03.1", "1.40").outcome == "warning"
    assert _engine_version("20.10.24+dfsg1", "1.41").outcome == "ok"


@pytest.mark.attack
@pytest.mark.row("M06")
@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"reached": ["1.1.1.1:443"]}, "it reached 1.1.1.1:443"),
        ({"resolves": True}, "it resolves names"),
        ({"links": ["eth0"]}, "it has the network link eth0"),
        ({"root": True}, "it runs as root"),
        ({"writes": True}, "it can write to its image"),
        ({"engine": True}, "it sees the engine's socket"),
    ],
)
def test_a_container_that_is_not_kept_in_fails_the_check(seen: dict[str, Any], words: str) -> None:
    good = {"reached": [], "resolves": False, "links": [], "routes": 0, "root": False, "writes": False, "engine": False}
    assert _judged(json.dumps(good).encode()).outcome == "ok"
    found = _judged(json.dumps({**good, **seen}).encode())
    assert (found.outcome, found.detail) == ("failed", words)
    assert _judged(b"").outcome == "failed"


def test_the_page_of_symptoms_says_what_is_really_said(tmp_path: Path) -> None:
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ") and "`" in line
    ]
    assert len(rows) >= len(FAULTS)
    for fault in FAULTS:
        if fault.__name__ not in _said:  # Where the tests are shared out, or one is run alone.
            folder = tmp_path / fault.__name__
            folder.mkdir()
            with one_site(folder) as site:
                _said[fault.__name__] = fault(site)
    for symptom, words, code, _ in rows:
        spoken = re.findall(r"`([^`]+)`", words)[0]
        pattern = re.compile(".*".join(re.escape(part) for part in spoken.split("…")), re.DOTALL)
        wanted = Code.OK if code == "0" else int(code)
        assert any(said.code == wanted and pattern.search(said.text) for said in _said.values()), (symptom, spoken)
    named = "\n".join(words for _, words, _, _ in rows)
    assert len(set(re.findall(r"`([^`]+)`", named))) >= len(FAULTS), "a fault that the page does not know"
