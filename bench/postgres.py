"""A private PostgreSQL with the settings that it ships with, for the work of a peer."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: PostgreSQL refuses to run as root, which then runs it as this user.
ANYBODY = "nobody"


@contextmanager
def private_postgres(directory: Path) -> Iterator[tuple[str, str]]:
    """The title of a new server, and the URL of its database."""
    bin = programs()
    place = directory / "postgres"
    place.mkdir()
    data, as_user = place / "data", list[str]()
    if os.geteuid() == 0:
        user = pwd.getpwnam(ANYBODY)
        os.chown(place, user.pw_uid, user.pw_gid)
        directory.chmod(0o711)  # so that the user reaches its own part
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def run(program: str, *arguments: str, output: int | None = subprocess.PIPE) -> str:
        command = [*as_user, str(bin / program), *arguments]
        done = subprocess.run(command, cwd=place, check=True, stdout=output, text=True)
        return str(done.stdout)

    run("initdb", "-D", str(data), "-U", "bench", "--auth=trust")
    options = f"-c listen_addresses='' -k {place}"
    start = ["-D", str(data), "-l", "log", "-o", options, "start"]
    run("pg_ctl", *start, output=subprocess.DEVNULL)  # the server would keep a pipe open
    try:
        version = run("postgres", "--version").split()[2]
        yield f"PostgreSQL {version}", f"postgresql://bench@/postgres?host={place}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "fast", "stop")


def programs() -> Path:
    """The directory with PostgreSQL's programs: Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    if path := shutil.which("initdb"):
        return Path(path).resolve().parent
    raise FileNotFoundError("there is no initdb: install PostgreSQL (Debian: postgresql)")
