"""Every code block of the pages for researchers and authors is run, and says what the page says that it says."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.conftest import missing
from tests.documents import blocks as code_of
from tests.flows.network import IMAGES, PASSWORD, Network, make_site

from .conftest import ROOT

DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^(?:<!-- file: (\S+) -->\n)?```(\w+)( engine)?\n(.*?)^```$(?:\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    file: str
    language: str
    engine: bool
    code: str
    said: str


def blocks(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = [
        Block(file or "", kind, bool(engine), code, said) for file, kind, engine, code, said in BLOCK.findall(text)
    ]
    assert text.count("```") == 2 * (len(found) + sum(bool(block.said) for block in found))
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the project's own programs first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    for name in [name for name in os.environ if name.startswith("VANTAGE6_")]:
        if name != "VANTAGE6_REQUIRE":  # what the tests must not skip
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def settled(here: Path, real_network: tuple[Network, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Puts this network's address into a page's code; the files that it names are there."""
    network = real_network[0]
    shutil.copy(network.ca_file, here / "ca.pem")
    shutil.copy(network.sites[0].key, here / "private_key.pem")
    monkeypatch.setenv("PASSWORD", PASSWORD)
    monkeypatch.setenv("VANTAGE6_PASSWORD", PASSWORD)
    monkeypatch.setattr("getpass.getpass", lambda _: PASSWORD)
    return lambda code: code.replace("https://server.example", network.url)


def shell(script: str) -> str:
    done = subprocess.run(["bash", "-euo", "pipefail"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            missing(program, "it is not installed")


def test_what_is_required_is_not_skipped(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception):
        need("no-such-program")
    monkeypatch.setenv("VANTAGE6_REQUIRE", "engine,no-such-program")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is required"):
        need("no-such-program")


@pytest.mark.row("M26")
@pytest.mark.envoy
@pytest.mark.xdist_group("examples-network")
def test_the_first_analysis_in_python(settled: Callable[[str], str]) -> None:
    need("jq")
    names: dict[str, object] = {}
    for block in blocks("first-analysis-python.md"):
        if block.language == "sh":
            assert shell(settled(block.code)) == block.said
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(settled(block.code), "first-analysis-python.md", "exec"), names)
        assert output.getvalue() == block.said
    names["client"].close()  # type: ignore[attr-defined]


@pytest.fixture
def plain(real_network: tuple[Network, Path]) -> Iterator[None]:
    """A collaboration without encryption, with one node."""
    network = real_network[0]
    one = network.sites[0].organization_id
    made = network.root.collaboration.create("plain", [one], encrypted=False)
    folder = network.folder / "p"
    folder.mkdir()
    data = {"diabetes": network.folder / "diabetes-1.csv"}
    # The runtime's name begins the node's, which has to be another one than that of the encrypted collaboration.
    like = replace(network, folder=folder, collaboration_id=made.id, runtime="plain")
    settings = {"encrypted": False, "runtime": "sandbox", "runtime_options": {"image_folder": str(IMAGES)}}
    site = make_site(like, one, data, {**settings, "private_key": str(network.sites[0].key)})
    try:
        site.node.wait_for("online")
        yield
    finally:
        site.node.stop()
        network.root.collaboration.delete(made.id)


@pytest.mark.row("D03")
@pytest.mark.row("D05")
@pytest.mark.envoy
@pytest.mark.xdist_group("examples-network")
@pytest.mark.usefixtures("plain")
def test_the_first_analysis_by_rest(settled: Callable[[str], str]) -> None:
    need("curl", "jq", "base64")
    found = blocks("first-analysis-rest.md")
    script = "".join(f"{settled(block.code)}printf '\\n@@@\\n'\n" for block in found)
    said = shell(script).split("\n@@@\n")
    assert [each.strip() for each in said[:-1]] == [block.said.strip() for block in found]


@pytest.mark.row("D03")
@pytest.mark.envoy
@pytest.mark.xdist_group("examples-network")
def test_the_calls_on_the_page_of_rest(
    settled: Callable[[str], str], real_network: tuple[Network, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("curl")
    monkeypatch.setenv("CURL_CA_BUNDLE", "ca.pem")
    [page], [error] = code_of("docs/rest.md", "console"), code_of("docs/rest.md", "json")
    log_in, shown, tasks = page.strip().splitlines()
    own = log_in.removeprefix("$ ").replace("ada", "researcher").replace("…", PASSWORD)
    tokens = json.loads(shell(settled(own)))
    assert {*tokens} == {*json.loads(shown)} | ({*tokens} & {"node_url"})
    monkeypatch.setenv("TOKEN", tokens["access_token"])
    assert isinstance(json.loads(shell(settled(tasks.removeprefix("$ ")))), list)
    root = real_network[0].root
    monkeypatch.setenv("TOKEN", root._loop.run(root._inner._session.fresh()))
    long = json.dumps({"name": "x" * 129})
    call = f"curl -s https://server.example/api/organization -H \"authorization: Bearer $TOKEN\" -d '{long}'"
    said, wanted = json.loads(shell(settled(call))), json.loads(error)
    assert (said["msg"], said["code"], {*said}) == (wanted["msg"], wanted["code"], {*wanted})
    assert said["details"][0].items() >= wanted["details"][0].items()


@pytest.mark.row("M20")
def test_an_algorithm_is_written_and_tested(here: Path) -> None:
    found = blocks("algorithms.md")
    lay_out(found, here)
    scripts = [block.code for block in found if block.language == "sh" and not block.engine]
    assert scripts == ["pytest -q\n"]
    assert "5 passed" in shell("pytest -q -c /dev/null --rootdir . -p no:cacheprovider\n")


@pytest.mark.engine
@pytest.mark.usefixtures("docker_engine")
def test_an_algorithm_is_shipped(here: Path) -> None:
    need("docker")
    subprocess.run([sys.executable, str(ROOT / "tools" / "images.py"), "--docker"], check=True, capture_output=True)
    found = blocks("algorithms.md")
    lay_out(found, here)
    [build] = [block.code for block in found if block.engine]
    name = build.split("--tag ")[1].split()[0]
    try:
        shell(build)
        inside = "import mean_age; print(mean_age.mean.__doc__)"
        assert "asks all of them" in shell(f"docker run --rm --entrypoint python3 {name} -c '{inside}'\n")
    finally:
        shell(f"docker image rm --force {name}\n")


def lay_out(found: list[Block], folder: Path) -> None:
    for block in found:
        if block.file:
            (folder / block.file).parent.mkdir(exist_ok=True)
            (folder / block.file).write_text(block.code)


@pytest.mark.parametrize("page", ["first-analysis-python.md", "first-analysis-rest.md", "algorithms.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / target).exists(), target


@pytest.mark.row("M26")
@pytest.mark.envoy
@pytest.mark.xdist_group("examples-network")
def test_a_terminal_shows_every_site(settled: Callable[[str], str], real_network: tuple[Network, Path]) -> None:
    """`v6 task wait` on a real terminal; with CAPTURE=1 what it shows becomes docs/images/progress.svg."""
    network, capture = real_network[0], os.environ.get("CAPTURE")
    login = "v6 login --server https://server.example --ca-file ca.pem --key private_key.pem --username researcher"
    ask = (
        "v6 task create -c 1 -o 1 -i vantage6/examples/glm:dev -m glm -k outcome=malignant -k kind=binomial "
        '-k \'features=["radius", "texture", "symmetry"]\' -d cancer --name "malignant tumours"'
    )
    task = int(shell(settled(f"{login}\n{ask}\n")))
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 92, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "92"}
    waiting = subprocess.Popen(["v6", "task", "wait", str(task)], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    said = b""
    with contextlib.suppress(OSError), open(master, "rb", buffering=0) as screen:  # noqa: PTH123 - a descriptor
        while piece := screen.read(4096):
            said += piece
    assert waiting.wait(60) == 0
    frames = screens(said.decode())
    shown = "\n".join(frames)
    for each in ("malignant tumours", network.client.organization.get(1).name, "running 0:0", "done in 0:"):
        assert each in shown
    assert any("↳ hospital 2" in frame for frame in frames)
    if capture:
        (DOCS / "images" / "progress.svg").write_text(picture(task, frames), encoding="utf-8")


def screens(said: str) -> list[str]:
    """What stood on the terminal, one after the other: the display goes back up before it draws itself anew."""
    frames = re.split(r"(?:\r?\x1b\[1A|\x1b\[2K|\r)+(?=\S|\x1b)", said)
    return [frame for frame in dict.fromkeys(re.sub(r"\x1b\[\?25.|\r", "", each) for each in frames) if frame.strip()]


def picture(task: int, frames: list[str]) -> str:
    """The display early, in the middle and at its end, without fonts from elsewhere."""
    whole = [frame for frame in frames if "malignant tumours" in frame]
    console = Console(record=True, width=92, file=io.StringIO(), force_terminal=True)
    for number in (len(whole) // 4, len(whole) // 2, -1):
        console.print(f"[dim]$[/] v6 task wait {task}" if number == len(whole) // 4 else "[dim]…[/]")
        console.print(Text.from_ansi(whole[number]))
    form = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    made = console.export_svg(title="v6 task wait", code_format=form, unique_id="progress")
    return "\n".join(line.rstrip() for line in made.splitlines()) + "\n"
