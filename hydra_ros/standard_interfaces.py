# SPDX-License-Identifier: Apache-2.0
"""The types of ``simulation_interfaces``, as far as they are installed.

The package is not part of every installation, and its versions differ. What is missing is left
out and named once; nothing else is the worse for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

PACKAGE = "simulation_interfaces"


class Refusal(Exception):
    """An answer other than OK: the standard's result code, and why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StandardInterfaces:
    """Finds types by their names and remembers which are missing."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        try:
            importlib.import_module(PACKAGE)
            self.installed = True
        except ImportError:
            self.installed = False

    def find(self, kind: str, name: str) -> Any | None:
        """Return the type ``name`` of ``kind`` "msg", "srv" or "action", None where missing."""
        if not self.installed:
            return None
        try:
            return getattr(importlib.import_module(f"{PACKAGE}.{kind}"), name)
        except (ImportError, AttributeError):
            self.missing.append(f"{kind}/{name}")
            return None


class StandardServices:
    """Creates services whose answers hold a ``Result``.

    Args:
        node: the node that serves.
        interfaces: where the types come from.
        group: callback group of all services.
        now: returns the time for stamps.
    """

    def __init__(
        self,
        node: Node,
        interfaces: StandardInterfaces,
        group: CallbackGroup,
        now: Callable[[], Time],
    ) -> None:
        self.interfaces = interfaces
        self.served: set[str] = set()
        self.Result = interfaces.find("msg", "Result")
        self._node = node
        self._group = group
        self.now = now

    def serve(self, kind: str, answer: Callable[[Any, Any], Awaitable[None]]) -> None:
        """Serve a type under its name in snake case; ``answer(request, response)`` fills it."""
        service = self.interfaces.find("srv", kind)
        if service is None or self.Result is None:
            return

        async def respond(request: Any, response: Any) -> Any:
            result = self.Result(result=self.Result.RESULT_OK)
            try:
                await answer(request, response)
            except Refusal as refusal:
                result = self.refused(kind, refusal.code, str(refusal))
            except Exception as error:  # an answer in any case: the node must outlive it
                result = self.refused(kind, self.Result.RESULT_OPERATION_FAILED, str(error))
            if hasattr(response, "result"):
                response.result = result
            return response

        self.served.add(kind)
        self._node.create_service(
            service, f"~/{snake_case(kind)}", respond, callback_group=self._group
        )

    def refused(self, kind: str, code: int, message: str) -> Any:
        """Return a result other than OK, which is logged too."""
        self._node.get_logger().warning(f"{snake_case(kind)}: {message} (result {code})")
        return self.Result(result=code, error_message=message)


def snake_case(name: str) -> str:
    """Return ``GetEntityState`` as ``get_entity_state``."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
