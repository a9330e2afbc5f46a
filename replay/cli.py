"""The command ``replay``: runs a server, makes a token.

Role: turns a command line into `server.Options`, and signals into an orderly end.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .access import Access, load, new_token
from .database import Error

try:
    from .server import BadSetup, Options, Server
except ModuleNotFoundError as error:
    sys.exit(f"replay: a server needs the package {error.name}: pip install 'replay[grpc]'")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replay", description="Durable workflows.")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("server", help="serve a log to every process and language")
    server.add_argument(
        "--db",
        action="append",
        default=[],
        metavar="[NAMESPACE=]URL",
        help="a database, of one namespace or, without its name, of all others; may be repeated",
    )
    server.add_argument("--listen", default="127.0.0.1:7654", metavar="HOST:PORT")
    server.add_argument("--tls-cert", type=Path, metavar="FILE", help="the server's certificate")
    server.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    server.add_argument(
        "--client-ca", type=Path, metavar="FILE", help="take only clients that it has certified"
    )
    server.add_argument(
        "--tokens", type=Path, metavar="FILE", help="take only clients with one of these tokens"
    )
    server.add_argument(
        "--insecure", action="store_true", help="listen without TLS to other machines, too"
    )
    server.add_argument("--max-streams", type=int, default=1000, metavar="N", help="of one client")
    server.add_argument(
        "--max-calls", type=int, default=10_000, metavar="N", help="in flight, of all clients"
    )
    server.add_argument(
        "--threads", type=int, default=8, metavar="N", help="that ask each database"
    )
    token = commands.add_parser("token", help="make a token, and its entry in the file of tokens")
    token.add_argument("name", help="whose it is")
    token.add_argument("--namespaces", default="*", help="separated by commas; * for all (*)")
    token.add_argument("--access", choices=("read", "write"), default="write")
    return parser


def databases(arguments: Sequence[str]) -> dict[str, str]:
    """The URLs of --db by namespace.  Raises `BadSetup`."""
    found: dict[str, str] = {}
    for text in arguments:
        name, equals, url = text.partition("=")
        if not equals or ":" in name:
            name, url = "", text
        if name in found:
            raise BadSetup(f"--db names a database for {name or 'all namespaces'} twice")
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
            max_streams=args.max_streams,
            max_calls=args.max_calls,
            threads=args.threads,
        )
    except OSError as error:
        raise BadSetup(f"{error.filename}: {error.strerror}") from error


async def serve(options: Options) -> None:
    """Run a server until the process is told to end."""
    server, stop = Server(options), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    host = options.listen.rpartition(":")[0]
    print(f"replay: serving on {host}:{server.port}", flush=True)
    await stop.wait()
    await server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code, 2 for what cannot be done."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        if args.command == "token":
            token, entry = new_token(args.name, args.namespaces.split(","), args.access)
            print(f"The token, shown only now:\n{token}\n\nIts entry in the file:\n{entry}", end="")
        else:
            asyncio.run(serve(_options(args)))
    except Error as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    return 0
