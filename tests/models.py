"""Plain Python values that the tests store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Line:
    name: str
    price: int
    weight: float | None = None
    due: datetime | None = None


@dataclass
class Order:
    id: str
    lines: list[Line] = field(default_factory=list)
    size: Size = Size.SMALL
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bill:
    total: int


@dataclass
class Approval:
    by: str
    ok: bool = True


@dataclass(eq=False)
class Unequal:
    """No two of them are equal."""

    name: str


class Model:
    """A class that reads and writes its own JSON, as those of pydantic do."""

    def __init__(self, number: Any) -> None:
        self.number = number

    def model_dump_json(self) -> str:
        return json.dumps({"number": self.number})

    @classmethod
    def model_validate_json(cls, data: bytes) -> Model:
        number = json.loads(data)["number"]
        if not isinstance(number, int | None):
            raise ValueError(f"number is {number!r}, expected an int")
        return cls(number)


@dataclass
class Holder:
    models: list[Model]
