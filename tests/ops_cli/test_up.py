"""A desk is started, asked, killed in parts and whole, and stopped; nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import psycopg
import pytest

from backoffice import settings
from ops_cli.output import Exit, Failed
from ops_cli.parts import plan, ports, processes, supervisor
from ops_cli.parts.desk import Desk
from ops_cli.parts.part import Health, Part, PartFailed, PortTaken
from ops_cli.parts.postgres import Postgres, wheel_binaries
from ops_cli.parts.processes import MARK, Record
from ops_cli.parts.redis import Redis
from ops_cli.parts.supervisor import Supervisor
from tests.ops_cli import leftovers

ROOT = Path(__file__).parent.parent.parent
ALL_PARTS = ["postgres", "redis", "sandbox", "web", "worker", "beat"]


class Ops:
    """The `ops` command on a desk of its own, as from a shell that has set nothing."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def environment(self, **changes: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if name not in plan.SETTINGS}
        clean.pop(MARK, None)
        return {**clean, "STAYDESK_HOME": str(self.home), **changes}

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ops_cli.main", *arguments],
            cwd=ROOT,
            env=self.environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **changes)
        out, err = process.communicate(timeout=280)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def up(self) -> subprocess.CompletedProcess[str]:
        run = self.run("up", "--detach", "--no-demo")
        assert run.returncode == 0, run.stderr
        return run

    def status(self) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
        run = self.run("status", "--format", "json")
        answer = json.loads(run.stdout)
        return run.returncode, {row["part"]: row for row in answer["data"]}, answer["summary"]

    @property
    def desk(self) -> Desk:
        return Desk.load(self.home)

    def pid(self, name: str) -> int:
        record = Record.load(self.desk.run, name)
        assert record is not None
        return record.pid

    def database(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.desk.environment["DATABASE_URL"], autocommit=True)


@pytest.fixture(scope="module")
def ops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ops]:
    """One desk for the tests of this file; each brings it up if it is down."""
    one = Ops(tmp_path_factory.mktemp("desk") / "home")
    try:
        yield one
    finally:
        one.run("down")
        place = one.desk.places.get("postgres")
        if place:
            subprocess.run(["rm", "-rf", str(Path(place).parent)], check=True)


def test_up_starts_every_part_and_says_where_they_are(ops: Ops) -> None:
    said = ops.up()
    code, parts, summary = ops.status()
    assert (code, summary["healthy"], list(parts)) == (0, True, ALL_PARTS)
    for name, row in parts.items():
        assert row["state"] == "healthy"
        assert psutil.pid_exists(row["pid"])
        assert row["version"], name
    assert parts["postgres"]["version"].startswith("18.")
    assert f"Console: {summary['console']}" in said.stdout
    assert f"Payment sandbox: {parts['sandbox']['address']}/_sim/" in said.stdout
    with urllib.request.urlopen(parts["web"]["address"] + "/readyz", timeout=30) as answer:
        assert answer.status == 200
    assert ops.desk.file.stat().st_mode & 0o777 == 0o600, "it holds secrets"


def listened(process: psutil.Process) -> list[str]:
    try:
        return [one.laddr.ip for one in process.net_connections("tcp") if one.status == "LISTEN"]
    except psutil.NoSuchProcess:  # one that ended meanwhile listens nowhere
        return []


def test_everything_listens_on_loopback_only(ops: Ops) -> None:
    ops.up()
    for name in ("postgres", "redis", "sandbox", "web"):
        process = psutil.Process(ops.pid(name))
        family = [process, *process.children(recursive=True)]
        listening = {ip for member in family for ip in listened(member)}
        assert listening == {"127.0.0.1"}, name


def test_the_database_and_redis_ask_for_their_password(ops: Ops) -> None:
    ops.up()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=ops.desk.ports["postgres"], user="postgres", dbname="postgres")
    with socket.create_connection(("127.0.0.1", ops.desk.ports["redis"]), timeout=10) as redis:
        redis.sendall(b"KEYS *\r\n")
        assert redis.recv(100).startswith(b"-NOAUTH")


def test_the_application_is_not_a_superuser_of_its_database(ops: Ops) -> None:
    ops.up()
    with ops.database() as database:
        row = database.execute(
            "SELECT rolsuper, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = current_user"
        )
        assert row.fetchone() == (False, False, False)


def test_a_second_up_says_that_it_runs_and_where_and_starts_nothing(ops: Ops) -> None:
    ops.up()
    before = {name: ops.pid(name) for name in ALL_PARTS}
    for arguments in (["up"], ["up", "--detach"]):
        second = ops.run(*arguments)
        assert second.returncode == 0
        assert "already running" in second.stderr
        assert "/console/" in second.stdout
    assert {name: ops.pid(name) for name in ALL_PARTS} == before


def test_any_part_that_is_killed_comes_back_and_nothing_is_lost(ops: Ops) -> None:
    ops.up()
    with ops.database() as database:
        database.execute("CREATE TABLE IF NOT EXISTS kept (at timestamptz DEFAULT now(), what text)")
        database.execute("INSERT INTO kept (what) VALUES ('before')")
    before = {name: ops.pid(name) for name in ALL_PARTS}
    for name in ALL_PARTS:
        os.kill(before[name], signal.SIGKILL)
    second = ops.run("up")
    assert second.returncode == 0, second.stderr
    code, parts, _ = ops.status()
    assert code == 0, parts
    assert all(parts[name]["pid"] != before[name] for name in ALL_PARTS)
    with ops.database() as database:
        assert database.execute("SELECT count(*) FROM kept WHERE what = 'before'").fetchone() == (1,)
        database.execute("DROP TABLE kept")


def test_a_desk_killed_whole_is_brought_up_again_and_then_stopped_without_a_trace(ops: Ops) -> None:
    ops.up()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], env={"PATH": ""})
    try:
        for name in ("supervisor", *ALL_PARTS):
            os.kill(ops.pid(name), signal.SIGKILL)
        assert ops.status()[0] == Exit.FINDINGS
        ops.up()
        assert ops.status()[0] == 0
        os.kill(ops.pid("supervisor"), signal.SIGKILL)
        assert ops.run("down").returncode == 0, "the parts of a dead supervisor are stopped too"
        assert leftovers.of(ops.home) == []
        assert "not running" in ops.run("down").stderr
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_ctrl_c_stops_what_was_started_in_reverse_order(ops: Ops) -> None:
    ops.run("down")
    desk = ops.start("up", "--no-demo")
    assert desk.stdout is not None
    for line in desk.stdout:
        if line.startswith("Running"):
            break
    desk.send_signal(signal.SIGINT)
    _, err = desk.communicate(timeout=120)
    assert desk.returncode == 0
    stopped = [line.split()[0] for line in err.splitlines() if " stopped (" in line]
    assert stopped == ALL_PARTS[::-1]
    assert leftovers.of(ops.home) == []


def test_a_port_asked_for_by_name_is_not_taken_from_anybody(ops: Ops) -> None:
    ops.run("down")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = ops.run("up", "--detach", "--port", str(port))
    assert refused.returncode == Exit.FAILURE
    assert refused.stderr.splitlines()[-1].startswith(f"ops: port {port} is in use by another program")
    assert leftovers.of(ops.home) == []


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"DATABASE_URL": "mysql://x/y"}, "DATABASE_URL=(hidden) is not usable"),
        ({"DEBUG": "perhaps"}, "DEBUG='perhaps' is not usable: write 1 or 0"),
        ({"DEBUG": "0"}, "SECRET_KEY is missing"),
    ],
    ids=lambda value: next(iter(value)) + next(iter(value.values()))[:1] if isinstance(value, dict) else "",
)
def test_a_bad_setting_is_one_line_before_anything_is_started(
    tmp_path: Path, environment: dict[str, str], line: str
) -> None:
    one = Ops(tmp_path / "home")
    run = one.run("up", "--detach", **environment)
    assert run.returncode == Exit.USAGE
    assert line in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert "starting postgres" not in run.stderr
    assert leftovers.of(one.home) == []


# What follows needs no whole desk.


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(home=tmp_path, id="0123456789ab")


class Silent:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, text: str) -> None:
        self.told.append(text)

    end = warn = begin


class Sleeper(Part):
    """A part that runs a shell command and is well as soon as it runs."""

    name = "sleeper"
    grace = 1.0
    script: ClassVar[str] = "sleep 300"

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", self.script]

    def check(self) -> Health:
        return Health(ok=True)


def calm() -> None:
    """A tick that never asks to stop."""


def test_a_part_whose_ground_died_meanwhile_does_not_keep_it_from_coming_back(desk: Desk) -> None:
    """All were killed at one moment, and the later one was seen to be dead first."""

    class Ground(Sleeper):
        name = "ground"

    class House(Sleeper):
        name = "house"

        def check(self) -> Health:
            return Health(ok=ground.exit_code is None and ground.process is not None)

    ground, house = Ground(desk=desk), House(desk=desk)
    one = Supervisor(desk, Silent())
    one.plan.parts = [ground, house]
    for part in one.plan.parts:
        one._came_up(part, part.start(tick=calm))
    try:
        assert ground.process is not None and house.process is not None
        first = ground.process.pid
        house.process.kill()
        assert processes.wait_until(lambda: house.exit_code is not None, seconds=10)
        ground.process.kill()  # and is not reaped yet when the supervisor looks at the house
        watching = threading.Thread(target=one._revive, args=(house,))
        watching.start()
        watching.join(timeout=20)
        assert not watching.is_alive(), "it waits for a house without ground"
        watching = threading.Thread(target=one.watch)
        watching.start()
        assert processes.wait_until(lambda: ground.process is not None and ground.process.pid != first, seconds=20)
        assert processes.wait_until(lambda: house.check().ok, seconds=20)
        one._stops = 1
        watching.join(timeout=20)
    finally:
        house.stop()
        ground.stop()


def test_a_recycled_pid_is_never_signalled(desk: Desk) -> None:
    other = subprocess.Popen(["sleep", "300"])
    try:
        true = Record("web", other.pid, processes.birth(other.pid) or "", time.time(), mark="x:web")
        assert true.is_alive
        recycled = replace(true, birth=true.birth + "1")
        recycled.save(desk.run)
        assert not recycled.is_alive
        for record in supervisor.recorded(desk):
            supervisor.end(record, desk)
        assert other.poll() is None
        assert supervisor.recorded(desk) == [], "and the stale record is forgotten"
    finally:
        other.kill()
        other.wait()


def test_a_zombie_counts_as_dead() -> None:
    child = subprocess.Popen(["true"])
    assert processes.wait_until(lambda: processes.birth(child.pid) is None, seconds=10)
    child.wait()


def test_what_a_killed_part_leaves_behind_is_ended_and_nothing_else(desk: Desk) -> None:
    class Parent(Sleeper):
        script = "sleep 301 & sleep 302 & wait"

    other = subprocess.Popen(["sleep", "301"], env={**os.environ, MARK: "another desk:sleeper"})
    part = Parent(desk=desk)
    try:
        part.start(tick=calm)
        record = part.record()
        assert record is not None
        children = psutil.Process(record.pid).children()
        assert processes.wait_until(lambda: len(psutil.Process(record.pid).children()) == 2, seconds=10)
        children = psutil.Process(record.pid).children()
        os.kill(record.pid, signal.SIGKILL)
        part.stop()
        assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_part_that_will_not_end_is_killed_after_its_grace(desk: Desk) -> None:
    class Stubborn(Sleeper):
        script = "trap '' TERM; while :; do sleep 0.1; done"

    part = Stubborn(desk=desk)
    part.start(tick=calm)
    record = part.record()
    time.sleep(0.3)  # the shell needs a moment to set its trap
    began = time.monotonic()
    part.stop()
    assert 0.9 < time.monotonic() - began < 5
    assert record is not None
    assert not record.is_alive


def test_a_part_that_dies_young_three_times_makes_the_desk_give_up(desk: Desk) -> None:
    class Mayfly(Sleeper):
        script = "echo 'I have a reason'; sleep 0.3; exit 9"

    report = Silent()
    one = Supervisor(desk, report)
    one.plan.parts.append(Mayfly(desk=desk))
    one._came_up(one.plan.parts[0], one.plan.parts[0].start(tick=calm))
    assert one.watch() == Exit.FAILURE
    assert one.failure.startswith("sleeper died 3 times in a row")
    assert one.failure.endswith("I have a reason")
    assert report.told.count("sleeper ended (code 9); starting it again") == 2


def test_a_part_that_cannot_have_its_port_says_so_as_such(desk: Desk) -> None:
    class Late(Sleeper):
        script = "echo 'OSError: Address already in use'; exit 1"

        def check(self) -> Health:
            return Health(ok=False)

    with pytest.raises(PortTaken):
        Late(desk=desk).start(tick=calm)


def test_only_one_supervisor_holds_a_desk(desk: Desk) -> None:
    with Supervisor(desk, Silent()).hold():
        assert supervisor.state(desk) == "starting"
        with pytest.raises(supervisor.AlreadyRunning), Supervisor(desk, Silent()).hold():
            pass
    assert supervisor.state(desk) == ""


def test_ports_in_use_are_passed_over_and_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setitem(ports.USUAL, "web", taken)
        made = plan.make(desk, given={})
        assert made.moved["web"][0] == taken
        assert desk.ports["web"] != taken
        assert len(set(desk.ports.values())) == len(ports.USUAL)
        with pytest.raises(PartFailed, match=f"port {taken} is in use"):
            plan.make(desk, given={}, web_port=taken)


def test_a_port_is_used_again_the_next_time(desk: Desk) -> None:
    first = ports.any_free()
    desk.ports["redis"] = first
    plan.make(desk, given={})
    assert desk.ports["redis"] == first


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        ({}, set()),
        ({"DATABASE_URL": "postgresql://db/x"}, {"postgres"}),
        ({"REDIS_URL": "redis://r/0"}, {"redis"}),
        ({"STRIPE_API_KEY": "sk_test_1"}, {"sandbox"}),
        ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, {"sandbox"}),
        ({"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://r/0"}, {"postgres", "redis"}),
    ],
)
def test_what_the_environment_gives_is_not_embedded(desk: Desk, given: dict[str, str], absent: set[str]) -> None:
    made = plan.make(desk, given=given)
    assert set(made.names) == set(ALL_PARTS) - absent
    assert set(made.external) == absent
    assert given.items() <= made.environment.items()
    if "sandbox" in absent:
        assert "STRIPE_WEBHOOK_SECRET" not in made.environment, "a secret of ours would not match theirs"
        assert "STRIPE_CONNECT_WEBHOOK_SECRET" not in made.environment
    else:
        assert made.environment["STRIPE_WEBHOOK_SECRET"] != made.environment["STRIPE_CONNECT_WEBHOOK_SECRET"]


def test_a_production_desk_gets_no_secret_that_it_did_not_bring(desk: Desk) -> None:
    assert "SECRET_KEY" not in plan.make(desk, given={"DEBUG": "0"}).environment
    assert plan.make(desk, given={"DEBUG": "0", "SECRET_KEY": "k"}).environment["SECRET_KEY"] == "k"
    assert len(plan.make(desk, given={}).environment["SECRET_KEY"]) >= 50


def test_the_settings_passed_on_are_the_settings_of_the_house() -> None:
    assert set(plan.SETTINGS) == set(settings.ENVIRONMENT)


def test_the_desks_memory_survives_damage(desk: Desk) -> None:
    desk.ports["web"] = 8123
    desk.save()
    assert Desk.load(desk.home).ports == {"web": 8123}
    desk.file.write_text("{half a fi")
    assert Desk.load(desk.home).ports == {}


@pytest.fixture
def postgres(desk: Desk) -> Iterator[Postgres]:
    desk.ports["postgres"] = ports.any_free()
    part = Postgres(desk=desk, data=desk.home / "pg", durable=False)
    try:
        yield part
    finally:
        part.stop()
        if "postgres" in desk.places:
            subprocess.run(["rm", "-rf", str(part.data.parent)], check=True)


def test_a_database_recovers_from_a_stale_pid_file_and_a_lost_password(postgres: Postgres, desk: Desk) -> None:
    postgres.start(tick=calm)
    postgres.stop()
    assert not (postgres.data / "postmaster.pid").exists()
    # The pid of a process that lives, but is not this server: PostgreSQL itself would refuse to start.
    (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.data}\n")
    del desk.secrets["postgres:postgres"]
    assert postgres.start(tick=calm).ok
    with psycopg.connect(postgres.url) as database:
        assert database.execute("SELECT current_user").fetchone() == ("staydesk",)


def test_a_half_made_cluster_is_made_anew(postgres: Postgres) -> None:
    postgres._find_place()
    (postgres.data / "half-made").mkdir()
    (postgres.data / "half-made" / "PG_VERSION").write_text("18\n")
    assert postgres.start(tick=calm).ok
    assert not (postgres.data / "half-made").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_as_root_the_server_runs_as_another_user_wherever_the_project_lies(postgres: Postgres, desk: Desk) -> None:
    desk.home.chmod(0o700)  # as a home is, below which nobody else gets
    postgres.start(tick=calm)
    record = postgres.record()
    assert record is not None
    assert psutil.Process(record.pid).uids().effective != 0
    assert not postgres.data.is_relative_to(desk.home)
    assert str(postgres.data) in postgres.note
    postgres.stop()
    desk.home.chmod(0o755)
    again = Postgres(desk=desk, data=desk.home / "pg", durable=False)
    again.prepare()
    assert again.data == postgres.data, "the data stays where it is, even when the project can be reached now"


def test_a_redis_file_that_cannot_be_read_is_set_aside(desk: Desk) -> None:
    desk.ports["redis"] = ports.any_free()
    part = Redis(desk=desk, data=desk.home / "redis")
    try:
        part.start(tick=calm)
        part.stop()
        base = next((part.data / "appendonlydir").glob("*.base.rdb"))
        base.write_bytes(b"REDIS9999" + os.urandom(64))
        assert part.start(tick=calm).ok
        assert len(list(desk.home.glob("redis-unreadable-*"))) == 1
    finally:
        part.stop()


def test_a_missing_wheel_names_the_setting_that_replaces_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops_cli.parts.postgres.find_spec", lambda name: None)
    with pytest.raises(Failed, match="set DATABASE_URL"):
        wheel_binaries()
