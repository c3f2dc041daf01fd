"""What the page says: no command of a terminal where the page has a way of its own, and no text of a library."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from vtag.app.ui.api.errors import invalid_value
from vtag.app.ui.page_sentences import page_sentence

SOURCES = Path(__file__).parents[2]
COMMAND = re.compile(r"`[^`]+`|(?<![\w-])--[a-z]")
# about what is done without the page: installing, the start of vtag, exports for other machines, clusters, recipes
NO_WAY_ON_THE_PAGE = re.compile(
    r"“(vtag doctor|vtag library restore|vtag words export|vtag models (export|import)|pip|ray)|"
    r"--(db|backend|device|clips|batch|precision|set|nproc-per-node|train|cluster|include|exclude|at|overwrite|"
    r"replace|force-reinstall|upgrade|force|model)\b|a folder with VTAG_HOME"
)


def literals(node: ast.AST) -> Iterator[str]:
    """The texts in a part of a program, with … for what is filled in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in child.values)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        else:
            yield from literals(child)


def messages() -> Iterator[str]:
    """The errors of engine and trainer that name commands or options, without those of published recipes."""
    for file in (*(SOURCES / "engine").rglob("*.py"), *(SOURCES / "trainer").rglob("*.py")):
        if "recipes" in file.parts or file.name in ("__main__.py", "job_queue.py"):
            continue
        errors = (
            node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Raise)
        )
        yield from (text for error in errors for text in literals(error) if COMMAND.search(text))


@pytest.mark.parametrize("message", sorted(set(messages())))
def test_a_message_names_the_way_of_the_page(message: str) -> None:
    said = page_sentence(message)
    assert "`" not in said
    assert not COMMAND.search(said) or NO_WAY_ON_THE_PAGE.search(said), said
    assert "“vtag" not in said or NO_WAY_ON_THE_PAGE.search(said), said


def test_the_way_fits_the_sentence() -> None:
    for terminal, page in (
        (
            "there is no library at x yet: `vtag scan FOLDER` makes one",
            "there is no library at x yet: a scan makes one",
        ),
        (
            "a training: --resume goes on with it; or delete x",
            "a training: start it again in Teach to go on; or delete x",
        ),
        (
            "scan some videos (`vtag scan FOLDER`) and teach again",
            "scan some videos (see Scan) and teach again",
        ),
        (
            "needs a score between 0 and 1, as in `score>0.6`",
            "needs a score between 0 and 1, as in “score>0.6”",
        ),
        ("no CUDA card; `vtag doctor` says why", "no CUDA card; “vtag doctor” in a terminal says why"),
    ):
        assert page_sentence(terminal) == page


class Form(BaseModel):
    score: float = Field(0, ge=0, le=1)
    epochs: int = Field(1, gt=0, lt=10)
    label: str = Field("x", min_length=1, max_length=5)
    sort: Literal["name", "date"] = "name"
    moments: list[int] = Field([1], min_length=1, max_length=2)
    force: bool = False
    folder_count: int


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"score": "2"}, "Confidence has to be at most 1, not '2'"),
        ({"score": -1}, "Confidence has to be at least 0"),
        ({"score": "much"}, "Confidence has to be a number, not 'much'"),
        ({"epochs": 0}, "Epochs have to be more than 0"),
        ({"epochs": "1.5"}, "Epochs have to be a whole number, not '1.5'"),
        ({"label": "archery"}, "Label is longer than 5 characters"),
        ({"label": ""}, "Label is empty"),
        ({"sort": "size"}, "Sort has to be 'name' or 'date', not 'size'"),
        ({"moments": []}, "Moments are none: choose some first"),
        ({"moments": [1, 2, 3]}, "Moments are more than 2 at once: choose fewer"),
        ({"moments": [1, "x"]}, "Moments have to be a whole number, not 'x'"),
        ({"force": "perhaps"}, "Force has to be true or false, not 'perhaps'"),
        ({"folder_count": None}, "Folder count has to be a whole number"),
    ],
)
def test_a_value_that_cannot_be_used_is_said_in_plain_words(value: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError) as failure:
        Form.model_validate({"folder_count": 1, **value})
    assert invalid_value(failure.value.errors())["error"] == sentence
    assert "pydantic" not in sentence


def test_a_missing_value_is_named() -> None:
    with pytest.raises(ValidationError) as failure:
        Form.model_validate({})
    assert invalid_value(failure.value.errors()) == {
        "error": "Folder count is missing",
        "field": "folder_count",
    }
