"""Every code block of every document is run by a test, which is named here.

Who adds a block, or another language, sees this test fail until there is a test that runs it, too.
"""

from __future__ import annotations

import ast

import pytest

from tests.documents import ROOT, kinds, pages

PYTHON = "tests/examples/test_docs.py::test_the_first_analysis_in_python"
REST = "tests/examples/test_docs.py::test_the_first_analysis_by_rest"
WRITTEN = "tests/examples/test_docs.py::test_an_algorithm_is_written_and_tested"
SHOWN = "tests/languages/test_documents.py::test_what_is_shown_of_the_algorithm_is_the_algorithm"
TRIED = "tests/languages/test_documents.py::test_an_algorithm_is_tried_without_a_network"
BUILT = "tests/languages/test_documents.py::test_an_image_is_built_by_its_dockerfile"
SITES = "tests/flows/test_documents.py::test_from_nothing_to_a_node_that_is_online"
CAPTURED = "tests/flows/test_wizards.py::test_the_page_shows_what_is_on_the_terminal"
MOCKED = "tests/examples/test_snippets.py::test_the_readme_of_an_example"

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
Run = tuple[int, str]
"""How many blocks, and which test runs them."""
RUN: dict[str, dict[str, Run]] = {
    "README.md": {
        "console": (2, "tests/examples/test_snippets.py::test_the_first_commands_are_there"),
        "python": (2, "tests/examples/test_snippets.py::test_the_front_page"),
    },
    "client/r/README.md": {"r": (1, "tests/languages/test_documents.py::test_the_readme_of_the_r_package")},
    "docs/algorithm-contract.md": {
        "sh": (1, "tests/node/test_proxy_web.py::test_the_call_on_the_contracts_page"),
        "python": (1, "tests/flows/test_logs.py::test_the_last_words_of_a_failing_run"),
    },
    "docs/algorithms.md": {
        "python": (3, WRITTEN),
        "sh": (1, WRITTEN),
        "dockerfile": (1, "tests/examples/test_docs.py::test_an_algorithm_is_shipped"),
        "sh engine": (1, "tests/examples/test_docs.py::test_an_algorithm_is_shipped"),
    },
    "docs/first-analysis-python.md": {"python": (7, PYTHON), "sh": (1, PYTHON), "text": (8, PYTHON)},
    "docs/first-analysis-r.md": {
        "sh": (2, "tests/languages/test_documents.py::test_a_first_analysis_from_a_shell"),
        "console": (1, "tests/languages/test_documents.py::test_the_proxy_is_started"),
        "r": (1, "tests/languages/test_documents.py::test_a_first_analysis_in_r"),
        "javascript": (1, "tests/languages/test_documents.py::test_a_first_analysis_from_javascript"),
    },
    "docs/first-analysis-rest.md": {"sh": (6, REST), "text": (5, REST)},
    "docs/gateway.md": {
        "yaml": (1, "tests/gateway/test_documents.py::test_the_configuration_of_the_page"),
        "python": (1, "tests/gateway/test_documents.py::test_the_program_of_the_page"),
        "json": (1, "tests/gateway/test_documents.py::test_the_error_of_the_page"),
    },
    "docs/governance.md": {"yaml": (1, "tests/node/test_disclosure.py::test_the_rules_of_the_page")},
    "docs/install-node.md": {
        "console": (2, SITES),
        "text": (1, CAPTURED),
    },
    "docs/install-server.md": {"console": (4, SITES), "yaml": (3, SITES), "text": (1, CAPTURED)},
    "docs/rest.md": {
        "console": (1, "tests/examples/test_docs.py::test_the_calls_on_the_page_of_rest"),
        "json": (1, "tests/examples/test_docs.py::test_the_calls_on_the_page_of_rest"),
    },
    "docs/write-algorithm-javascript.md": {
        "javascript": (2, SHOWN), "sh": (1, TRIED), "text": (1, TRIED), "dockerfile": (1, BUILT),
    },
    "docs/write-algorithm-r.md": {"r": (2, SHOWN), "sh": (1, TRIED), "text": (1, TRIED), "dockerfile": (1, BUILT)},
    "examples/algorithms/average/README.md": {"python": (2, MOCKED)},
    "examples/algorithms/contingency_table/README.md": {"python": (1, MOCKED)},
    "examples/algorithms/glm/README.md": {"python": (1, MOCKED)},
    "examples/algorithms/kaplan_meier/README.md": {"python": (1, MOCKED)},
    "examples/algorithms/logistic_regression/README.md": {"python": (1, MOCKED)},
    "examples/algorithms/summary_statistics/README.md": {"python": (1, MOCKED)},
}  # fmt: skip


@pytest.mark.parametrize("page", pages())
def test_every_block_is_run(page: str) -> None:
    known = {kind: count for kind, (count, _) in RUN.get(page, {}).items()}
    found = {kind: count for kind, count in kinds(page).items() if kind}
    assert found == known, f"{page}: write a test that runs each block, and name it here"


@pytest.mark.parametrize("page", RUN)
def test_by_a_test_that_is_there_and_reads_the_page(page: str) -> None:
    name = page.rpartition("/")[2]
    # Some put the page's name together of its parts.
    words = [f'"{page}"', f'"{name}"', f"/{page}", f"{name.rpartition('-')[0]}-{{language}}.md"]
    words += ["examples/algorithms/{name}/README.md"] if page.startswith("examples/") else ["from .captures import"]
    for _, test in RUN[page].values():
        file, _, function = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        functions = [each for each in ast.walk(ast.parse(text)) if isinstance(each, FUNCTION)]
        assert function in {each.name for each in functions}, test
        assert any(word in text for word in words), f"{file} does not read {page}"
