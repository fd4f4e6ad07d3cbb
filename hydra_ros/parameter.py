# SPDX-License-Identifier: Apache-2.0
"""One line of a node's table of parameters, as the field of a dataclass."""

from __future__ import annotations

import dataclasses
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One line of the table; ``minimum`` and ``maximum`` include their values."""

    name: str = ""
    default: bool | int | float | str = 0
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False
    clip_length: bool = False  # frames of a clip: 1 + 4 k

    @property
    def type_name(self) -> str:
        """Type as ROS calls it."""
        names = {bool: "bool", int: "int", float: "double", str: "string"}
        return names[type(self.default)]

    @property
    def accepted(self) -> str:
        """Accepted values in words, "" where the type says all."""
        if self.choices:
            return ", ".join(self.choices)
        if self.minimum is None:
            return ""
        if self.maximum is None:
            return f"{self.minimum} or more"
        return f"{self.minimum} to {self.maximum}"

    def check(self, value: Any) -> str | None:
        """Return why a value is refused, None where it is accepted."""
        if self.choices and value not in self.choices:
            return f"{self.name} is {value!r}; accepted: {', '.join(self.choices)}"
        if self.minimum is not None and not value >= self.minimum:
            return f"{self.name} is {value}; accepted: {self.accepted}"
        if self.maximum is not None and not value <= self.maximum:
            return f"{self.name} is {value}; accepted: {self.accepted}"
        if self.clip_length and value != 0 and value % 4 != 1:
            zero = "0 or " if self.minimum == 0 else ""
            return f"{self.name} is {value}; accepted: {zero}1 + 4 k (1, 5, 9, ... 17, ... 77)"
        return None

    def parse(self, text: str) -> bool | int | float | str:
        """Return the value that a launch argument's text stands for.

        Raises:
            ValueError: it is none of this type, or is not accepted.
        """
        kind = type(self.default)
        try:
            value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            accepted = "true, false" if kind is bool else f"a number ({self.type_name})"
            raise ValueError(f"{self.name} is {text!r}; accepted: {accepted}") from None
        refusal = self.check(value)
        if refusal:
            raise ValueError(refusal)
        return value

    def descriptor(self) -> ParameterDescriptor:
        """Return the ROS descriptor."""
        from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

        message = ParameterDescriptor(
            name=self.name, description=self.description, read_only=self.read_only
        )
        message.additional_constraints = f"accepted: {self.accepted}" if self.choices else ""
        if self.minimum is not None and self.maximum is not None:
            limits = {"from_value": self.minimum, "to_value": self.maximum}
            if isinstance(self.default, float):
                message.floating_point_range = [FloatingPointRange(**limits)]
            else:
                message.integer_range = [IntegerRange(**limits)]
        return message


def parameter(default: Any, description: str, **options: Any) -> Any:
    """Return the dataclass field of a parameter; ``options`` are those of ``Parameter``."""
    description = " ".join(textwrap.dedent(description).split())
    line = Parameter(default=default, description=description, **options)
    return dataclasses.field(default=default, metadata={"parameter": line})
