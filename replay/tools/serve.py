"""The commands `server` and `token`: run a server, make a token for it.

Role: turns options into a call of the library, and signals into an orderly end.  `server` needs the
extra `grpc`, and imports it only when it runs: every ``--help`` works without.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..server.access import Access, load, new_token
from ..server.limits import allow_open_files
from ..server.options import BadSetup, Options, exposed
from ..storage.database import Error
from .console import Commands

if TYPE_CHECKING:
    from ..server.server import Server
    from .exporter import Exporter

log = logging.getLogger("replay")

_SWITCH = 0.0002  # seconds that a thread of a server computes while others wait for their turn


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    server = commands.add_parser(
        "server",
        help="serve a log over gRPC",
        description="Serve a log over gRPC.  SIGTERM stops it in order.  On SIGHUP it reads the"
        " files of tokens and certificates again.",
    )
    server.add_argument(
        "--db",
        action="append",
        default=[],
        metavar="[NAMESPACE=]URL",
        help="a database: of one namespace, or without a name of all others; repeatable",
    )
    server.add_argument(
        "--listen", default="127.0.0.1:7654", metavar="HOST:PORT", help="default: %(default)s"
    )
    server.add_argument("--tls-cert", type=Path, metavar="FILE", help="the server's certificate")
    server.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's key")
    server.add_argument(
        "--client-ca",
        type=Path,
        metavar="FILE",
        help="accept only clients with a certificate from one of these authorities",
    )
    server.add_argument(
        "--open-health",
        action="store_true",
        help="answer health checks (grpc.health.v1.Health/Check) without a token",
    )
    server.add_argument(
        "--tokens", type=Path, metavar="FILE", help="accept only clients with one of these tokens"
    )
    server.add_argument(
        "--insecure", action="store_true", help="allow other machines to connect without TLS"
    )
    server.add_argument(
        "--metrics",
        default="",
        metavar="HOST:PORT",
        help="serve metrics for Prometheus at http://HOST:PORT/metrics; with --tokens, to tokens"
        " for all namespaces",
    )
    server.add_argument(
        "--max-streams",
        type=int,
        default=1000,
        metavar="N",
        help="streams and waiting calls of one client, of which a connection may have a tenth"
        " (default: %(default)s)",
    )
    server.add_argument(
        "--max-calls",
        type=int,
        default=10_000,
        metavar="N",
        help="other calls in flight, over all clients, of which one may have a quarter"
        " (default: %(default)s)",
    )
    server.add_argument(
        "--threads",
        type=int,
        default=8,
        metavar="N",
        help="threads that query each database (default: %(default)s)",
    )
    server.set_defaults(call=_serve, level=logging.INFO)
    token = commands.add_parser(
        "token",
        help="make a token for a server",
        description="Make a token, and print its entry for the file that --tokens names.",
    )
    token.add_argument("name", help="the token's name in messages and in the file")
    token.add_argument(
        "--namespaces",
        default="*",
        metavar="LIST",
        help="separated by commas; * means all (default: %(default)s)",
    )
    token.add_argument(
        "--access", choices=("read", "write"), default="write", help="default: %(default)s"
    )
    token.set_defaults(call=_make_token)


def databases(arguments: Sequence[str]) -> dict[str, str]:
    """The URLs of --db by namespace.  Raises `BadSetup`."""
    found: dict[str, str] = {}
    for text in arguments:
        name, equals, url = text.partition("=")
        if not equals or ":" in name:
            name, url = "", text
        if name in found:
            raise BadSetup(f"--db names two databases for {name or 'all namespaces'}: keep one")
        found[name] = url
    return found


def _options(args: argparse.Namespace) -> Options:
    try:
        return Options(
            databases=databases(args.db),
            listen=args.listen,
            access=load(args.tokens) if args.tokens else Access(),
            certificate=args.tls_cert and args.tls_cert.read_bytes(),
            key=args.tls_key and args.tls_key.read_bytes(),
            client_ca=args.client_ca and args.client_ca.read_bytes(),
            insecure=args.insecure,
            open_health=args.open_health,
            metrics=args.metrics,
            max_streams=args.max_streams,
            max_calls=args.max_calls,
            threads=args.threads,
        )
    except OSError as error:
        raise BadSetup(f"{error.filename}: {error.strerror}") from error


def _warn(args: argparse.Namespace, options: Options) -> None:
    """Log what an operator should know about the files."""
    secret = {args.tls_key}
    files = [path for path in (args.tokens, args.tls_key, args.tls_cert, args.client_ca) if path]
    found = [exposed(path, secret=path in secret) for path in files]
    for warning in (*filter(None, found), *options.warnings()):
        log.warning("%s", warning)


def _reload(server: Server, args: argparse.Namespace) -> None:
    """Read the files of tokens and certificates again.  If one is bad, all stay as they were."""
    try:
        options = _options(args)
        server.reload(options)
    except Error as error:
        log.error("%s; the old tokens and certificates stay in use", error)
    else:
        log.info("the tokens and certificates were read again")
        _warn(args, options)


async def serve(kind: type[Server], args: argparse.Namespace) -> None:
    """Run a server until the process gets SIGTERM or SIGINT.  On SIGHUP it reads files again."""
    options = _options(args)
    _warn(args, options)
    allow_open_files()
    # A call takes some twenty turns.  Python's 5 ms would add up to 0.1 s beside one large commit.
    sys.setswitchinterval(_SWITCH)
    exporter = _exporter(options.metrics) if options.metrics else None
    server = kind(options, None if exporter is None else exporter.figures)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exporter is not None:
        await exporter.start(server)
    await server.start()
    # A full collection looks at all calls and events, and nobody is served meanwhile.  So they are
    # rare, and pass over what was imported.
    gc.set_threshold(700, 10, 100)
    gc.freeze()
    loop.add_signal_handler(signal.SIGHUP, _reload, server, args)
    host = options.listen.rpartition(":")[0]
    print(f"replay: serving on {host}:{server.port}", flush=True)
    if exporter is not None:
        host = options.metrics.rpartition(":")[0]
        print(f"replay: metrics on http://{host}:{exporter.port}/metrics", flush=True)
    await stop.wait()
    if exporter is not None:
        await exporter.stop()
    await server.stop()


def _exporter(listen: str) -> Exporter:
    try:
        from .exporter import Exporter  # needs the optional extra `metrics`
    except ModuleNotFoundError as error:
        raise BadSetup(
            f"--metrics needs the package {error.name}: pip install 'replay-workflows[metrics]'"
        ) from error
    return Exporter(listen)


def _serve(args: argparse.Namespace) -> int:
    try:
        from ..server.server import Server  # needs the optional extra `grpc`
    except ModuleNotFoundError as error:
        raise BadSetup(
            f"a server needs the package {error.name}: pip install 'replay-workflows[grpc]'"
        ) from error
    asyncio.run(serve(Server, args))
    return 0


def _make_token(args: argparse.Namespace) -> int:
    token, entry = new_token(args.name, args.namespaces.split(","), args.access)
    print(f"The token, shown only once:\n{token}\n\nIts entry in the file:\n{entry}", end="")
    return 0
