"""Rules that import-linter cannot check: which modules use SQL, clocks and HTML, and what scripts import."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "tests" / "benchmarks").glob("*.py"), *(ROOT / "tests").glob("make_*.py")])
_SQL = re.compile(
    r"\s*(SELECT|INSERT|REPLACE|UPDATE|DELETE|PRAGMA|CREATE|DROP|ALTER|BEGIN|WITH\s+\w+\s+AS)\s+[\w*(]"
)
_HTML = re.compile(
    r"</?(a|b|body|br|button|code|dd|details|div|dl|dt|em|figcaption|figure|form|h[1-6]|head|html|i|iframe|img|input"
    r"|label|li|link|meta|ol|option|p|path|pre|script|select|small|source|span|strong|style|summary|svg|table|tbody"
    r"|td|th|thead|tr|track|u|ul|video)(\s+[\w-]+\s*=|\s*/?>)"
)
_CLOCKS = ("now", "utcnow", "today")  # methods of datetime and date


def test_sql_is_only_in_the_library() -> None:
    """A verdict that is written past the library is compared wrongly later."""
    assert _positions(_is_sql, lambda module: not module.startswith("engine/library/")) == []


def test_clocks_are_read_only_in_the_engine() -> None:
    """Timestamps of the library come from its own clock. The engine dates downloads, too."""
    assert _positions(_reads_clock, lambda module: not module.startswith("engine/")) == []


def test_html_is_only_in_html_modules() -> None:
    """Text is escaped in one kind of module. The page's scripts and styles are in assets."""
    assert _positions(_is_html, lambda module: not re.fullmatch(r"app/ui/html_\w+\.py", module)) == []


def test_sql_and_html_are_recognised_in_their_own_modules() -> None:
    assert _positions(_is_sql, lambda module: module == "engine/library/store/files.py")
    assert _positions(_is_html, lambda module: module == "app/ui/html_login.py")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_of_vtag_is_there(script: Path) -> None:
    """No test runs the benchmarks, and a name that was changed would be noticed when a figure is wanted."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("vtag", "helpers")):
            module = importlib.import_module(node.module)
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            if hasattr(module, "__path__"):  # a package: the name may be one of its modules
                missing = [name for name in missing if not importlib.util.find_spec(f"{node.module}.{name}")]
            assert missing == [], node.module


def _positions(is_match: Callable[[ast.expr], bool], is_checked: Callable[[str], bool]) -> list[str]:
    """File and line of each matching expression in the checked modules."""
    return [
        f"{module}:{node.lineno}"
        for module, path in _modules()
        if is_checked(module)
        for node in _expressions(path)
        if is_match(node)
    ]


def _modules() -> Iterator[tuple[str, Path]]:
    for room in ("app", "engine", "trainer"):
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path


def _expressions(path: Path) -> list[ast.expr]:
    """All expressions of a module, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [node for node in ast.walk(tree) if isinstance(node, ast.expr) and id(node) not in docstrings]


def _is_sql(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_SQL.match(node.value))


def _is_html(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_HTML.search(node.value))


def _reads_clock(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in _CLOCKS
        and isinstance(node.value, ast.Name)
        and node.value.id in ("datetime", "date")
    )
