"""Text becomes typed values, or one line says why not."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from imagoal.errors import UserError
from imagoal.typed import build, convert, plain


@dataclass
class Inner:
    rate: float = 0.1
    kind: Literal["exp", "softmax"] = "exp"


@dataclass
class Outer:
    steps: int = field(default=1, metadata={"minimum": 1})
    sizes: tuple[int, ...] = (1, 2)
    shape: tuple[int, int, int] = (1, 2, 3)
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)
    names: list[str] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    anything: Any = None

    def __post_init__(self) -> None:
        if self.steps == 13:
            raise ValueError("steps=13 brings bad luck")


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("5", int, 5), ("1e5", int, 100000), ("1e-3", float, 1e-3), ("3", float, 3.0), ("-.5e2", float, -50.0),
        ("true", bool, True), ("no", bool, False), ("5", str, "5"), ("true", str, "true"), ("a=b,c", str, "a=b,c"),
        ("none", float | None, None), ("0.5", float | None, 0.5), ("1,2,3", tuple[int, ...], (1, 2, 3)),
        ("[1, 2]", list[int], [1, 2]), ("4", tuple[int, ...], (4,)), ("{a: 1}", dict[str, float], {"a": 1.0}),
        ("softmax", Literal["exp", "softmax"], "softmax"), ("2", Literal[1, 2], 2), ("{x: 1}", Any, {"x": 1}),
    ],
)  # fmt: skip
def test_values_of_every_kind(text: str, annotation: Any, value: object) -> None:
    found = convert(text, annotation, "key")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"steps": "many"}, "steps=many: expected a whole number"),
        ({"steps": "1.5"}, "expected a whole number"),
        ({"steps": "true"}, "expected a number"),
        ({"steps": "0"}, "must be at least 1"),
        ({"steps": "13"}, "bad luck"),
        ({"stebs": "1"}, "unknown key 'stebs'; did you mean 'steps'?"),
        ({"inner": {"rat": 1}}, "unknown key 'inner.rat'; did you mean 'inner.rate'?"),
        ({"inner": {"kind": "sofmax"}}, "inner.kind=sofmax is not a choice; did you mean 'softmax'?"),
        ({"inner": "5"}, "inner=5: expected key: value pairs"),
        ({"shape": "1,2"}, "expected 3 values"),
        ({"sizes": "1,x"}, "expected a whole number"),
        ({"limit": "low"}, "limit=low: expected a number"),
        ({"weights": "3"}, "expected key: value pairs"),
        ({"limit": "nan"}, "expected a number"),
    ],
)
def test_what_is_wrong_is_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        build(Outer, values, "")
    assert line in str(error.value) and "\n" not in str(error.value)


def test_plain_is_the_reverse_of_build() -> None:
    made = build(Outer, {"sizes": "7", "inner": {"rate": "1e-4"}, "weights": "{a: 2}"}, "")
    assert made.inner == Inner(rate=1e-4) and made.sizes == (7,)
    assert build(Outer, plain(made), "") == made
