# SPDX-License-Identifier: Apache-2.0
"""``hydra_web``: serves the page until it is interrupted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra_ros.environment import use_dds_profile
from hydra_ros.web import security

if TYPE_CHECKING:
    from hydra_ros.web.server import Server

WRONG_INPUT = 2
CANNOT_LISTEN = 3
TOKEN_VARIABLE = "HYDRA_WEB_TOKEN"


def main(args: Sequence[str] | None = None) -> int:
    """Run the server; the exit code is 0 after an interrupt.

    2 stands for wrong arguments or a missing dependency, 3 for an address or port that cannot
    be listened on.
    """
    with contextlib.suppress(KeyboardInterrupt):  # before the loop takes care of signals
        return _run(list(sys.argv[1:] if args is None else args))
    return 0


def _run(arguments: list[str]) -> int:
    own, ros = _split(arguments)
    options = build_parser().parse_args(own)
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        return _fail("aiohttp is missing: pip install 'hydra_ros[web]'", WRONG_INPUT)
    try:
        token = security.check_token(options.token) if options.token else ""
    except ValueError as error:
        return _fail(str(error), WRONG_INPUT)
    if not token and not security.is_loopback(options.host):
        token = security.new_token()
    try:
        listening = _listen(options.host, options.port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        address = f"port {options.port} of {options.host}"
        return _fail(f"cannot listen on {address}: {reason}; see --port and --host", CANNOT_LISTEN)
    use_dds_profile()
    with listening:
        return asyncio.run(_serve(options, ros, token, listening))


async def _serve(
    options: argparse.Namespace, ros: list[str], token: str, listening: socket.socket
) -> int:
    # Here, so that wrong arguments are answered before ROS is loaded.
    import rclpy
    from aiohttp import web
    from rclpy.exceptions import InvalidNamespaceException
    from rclpy.signals import SignalHandlerOptions

    from hydra_ros.unknown_parameters import warn_of_unknown_parameters
    from hydra_ros.web.bridge import Bridge
    from hydra_ros.web.hub import Hub
    from hydra_ros.web.limits import SpeedLimits
    from hydra_ros.web.server import Server
    from hydra_ros.web.simulator_link import SimulatorLink

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    context = rclpy.Context()
    try:
        rclpy.init(args=ros, context=context, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # of rcl: arguments after --ros-args that are none
        return _fail(" ".join(str(error).split())[:200], WRONG_INPUT)
    try:
        node = rclpy.create_node("hydra_web", context=context, namespace=options.namespace)
    except InvalidNamespaceException as error:
        rclpy.shutdown(context=context)
        return _fail(" ".join(str(error).split()), WRONG_INPUT)
    log = node.get_logger()
    _tell_in_one_line(log.warning)
    hub = Hub(SpeedLimits(linear=options.max_linear_speed, angular=options.max_angular_speed))
    bridge = Bridge(context, node, hub.deliver)
    hub.connect(bridge, SimulatorLink(node, bridge.tell))
    warn_of_unknown_parameters(node)
    server: Server = Server(hub, token, options.stall_timeout, log.warning)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=2.0)
    running = asyncio.create_task(hub.run())
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
        bridge.start()
        print(f"hydra_web: {_address(listening, options.host, token)}", flush=True)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, running}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        running.cancel()
        await runner.cleanup()
        bridge.stop()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return 0


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part our own arguments from those of ROS: --ros-args to -- or the end."""
    if "--ros-args" not in arguments:
        return arguments, []
    start = arguments.index("--ros-args")
    end = arguments.index("--", start) if "--" in arguments[start:] else len(arguments)
    return arguments[:start] + arguments[end + 1 :], arguments[start:end]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hydra_web",
        description="A page in the browser that drives the simulator.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, default=8080, help="port; 0 takes a free one")
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE, ""),
        help=f"what a browser must know, also from {TOKEN_VARIABLE}; made and printed where it "
        "is empty and the host is not this machine alone",
    )
    parser.add_argument("--namespace", default="", help="ROS namespace of the simulator")
    parser.add_argument(
        "--max-linear-speed", type=_positive, default=1.0, help="fastest drive in m/s"
    )
    parser.add_argument(
        "--max-angular-speed", type=_positive, default=1.0, help="fastest turn in rad/s"
    )
    parser.add_argument(
        "--stall-timeout",
        type=_positive,
        default=20.0,
        help="seconds after which a browser that takes nothing is closed",
    )
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not from 0 to 65535")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0.0 < number <= 1000.0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 and at most 1000")
    return number


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(64)
    except OSError:
        listening.close()
        raise
    return listening


def _address(listening: socket.socket, host: str, token: str) -> str:
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    query = f"?token={token}" if token else ""
    return f"http://{name}:{listening.getsockname()[1]}/{query}"


def _tell_in_one_line(warn) -> None:
    """Let what aiohttp has to say (requests that are no HTTP, ...) go to the node's log."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            text = " ".join(f"{record.getMessage()}: {error or ''}".split())
            warn(text.rstrip(": ")[:300])

    logger = logging.getLogger("aiohttp")
    logger.addHandler(Handler(level=logging.WARNING))
    logger.propagate = False


def _fail(reason: str, code: int) -> int:
    print(f"hydra_web: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
