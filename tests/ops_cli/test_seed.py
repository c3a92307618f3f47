"""`ops seed`: the commands as they are typed, their answers and exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.clock import now
from backoffice.jobs import operations as jobs
from backoffice.ledger import queries as ledger
from backoffice.listings.models import Listing
from backoffice.payments.models import Chargeback
from backoffice.payouts.models import HostAccount
from backoffice.people import queries as people
from backoffice.people.models import User
from backoffice.people.states import ROLES
from ops_cli.main import main
from ops_cli.output import Exit
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.inside_airbnb_exports import export, listing, nights

GHENT = ("--city", "Ghent", "--currency", "eur", "--country", "BE", "--time-zone", "Europe/Brussels")


@pytest.fixture(autouse=True)
def _home(settings: Any, tmp_path: Path) -> Path:
    """A desk's directory of its own."""
    settings.HOME = tmp_path / "desk"
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--format", "json"]) == Exit.DONE
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.django_db
def test_inside_airbnb_answers_with_the_counts_of_each_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(export(tmp_path / "a", [listing(), listing(id="x")], nights(taken="tff")))
    found = answer(capsys, "seed", "inside-airbnb", directory, *GHENT)
    assert found["schema"] == "ops.seed.inside-airbnb/1"
    kinds = {row["kind"]: row for row in found["data"]}
    assert (kinds["listings"]["read"], kinds["listings"]["loaded"], kinds["listings"]["rejected"]) == (2, 1, 1)
    assert kinds["listings"]["reasons"] == {"rejected": {"id": 1}}
    assert kinds["blocks"]["added"] == 1
    summary = found["summary"]
    assert (summary["city"], summary["snapshot"], summary["dry_run"]) == ("Ghent", "2025-01-05", False)
    assert Path(summary["rejects"]) == tmp_path / "desk" / "imports" / "ghent-rejects.csv"
    assert Path(summary["rejects"]).read_text().splitlines()[1].startswith("listings,2,x,id,")
    assert answer(capsys, "seed", "inside-airbnb", directory, *GHENT)["summary"]["changed"] == 0


@pytest.mark.django_db
def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "seed", "inside-airbnb", str(export(tmp_path / "a")), *GHENT, "--dry-run")
    assert found["summary"]["dry_run"] is True and found["summary"]["changed"] > 0
    assert not Listing.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--city", "Ghent", "--currency", "EUR"), Exit.USAGE, "--country"),
        (("--currency", "EUR"), Exit.USAGE, "--city"),
        (("--city", "Paris"), Exit.USAGE, "--currency"),
        ((*GHENT, "--currency", "euro"), Exit.USAGE, "--currency"),
        ((*GHENT, "--time-zone", "Ghent"), Exit.USAGE, "--time-zone"),
    ],
)
def test_options_that_are_missing_or_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], code: Exit, says: str
) -> None:
    assert main(["seed", "inside-airbnb", str(export(tmp_path / "a")), *options]) == code
    assert says in capsys.readouterr().err
    assert not Listing.objects.exists()


@pytest.mark.django_db
def test_a_directory_that_is_no_export_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seed", "inside-airbnb", str(tmp_path / "nowhere"), *GHENT]) == Exit.USAGE
    capsys.readouterr()
    assert main(["seed", "inside-airbnb", str(tmp_path), *GHENT]) == Exit.FAILURE
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "there is no listings.csv" in lines[0]


@pytest.mark.django_db
def test_a_city_that_is_being_loaded_is_locked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(export(tmp_path / "a"))
    with jobs.running(name="seed.inside-airbnb", scope="ghent", actor=system("other"), now=now()):
        assert main(["seed", "inside-airbnb", directory, *GHENT]) == Exit.LOCKED
    assert "already running" in capsys.readouterr().err


# The demo -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(sandbox: RunningSandbox, settings: Any) -> None:
    """A desk on which the demo may be loaded; passwords are hashed cheaply, there are many."""
    settings.DEBUG = settings.SANDBOXED = True
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.mark.django_db(transaction=True)
def test_the_demo_is_a_whole_small_world_and_loading_it_again_changes_nothing(
    demo: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "seed", "demo", "--if-empty", "--bookings", "20")
    assert found["warnings"] == [] and found["summary"]["added"]["bookings"] == 20
    states = found["summary"]["bookings"]
    assert set(states) == {
        "awaiting_payment", "cancelled", "checked_in", "completed", "confirmed", "expired", "no_show",
    }  # fmt: skip
    assert sum(states.values()) == 20
    written = json.loads((tmp_path / "desk" / "demo.json").read_text())
    assert {login["role"] for login in written["logins"]} == set(ROLES)
    for login in (*written["logins"], written["guest"], written["host"]):
        assert User.objects.get(email=login["email"]).check_password(login["password"])
    for login in written["logins"]:
        person = User.objects.get(email=login["email"])
        assert people.roles_of(person_id=person.id) == (login["role"],)
    assert set(Listing.objects.values_list("currency", flat=True)) == {"EUR", "SGD", "USD", "JPY"}
    refunds = Booking.objects.filter(payment__refunds__status="requested").count()
    assert refunds == 1
    assert sorted(Chargeback.objects.values_list("kind", flat=True)) == ["chargeback", "inquiry"]
    statuses = HostAccount.objects.order_by("id").values_list("status", flat=True)
    assert list(statuses) == ["enabled"] * 6 + ["restricted"], "of eight hosts one has not begun"
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []

    again = answer(capsys, "seed", "demo", "--if-empty", "--bookings", "20")
    assert again["summary"] == {"added": {}, "bookings": states} and again["warnings"] == []


@pytest.mark.django_db(transaction=True)
def test_without_an_answer_from_the_provider_the_demo_stands_unpaid(
    demo: None, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from backoffice.payments.gateway import stripe as provider

    settings.STRIPE_API_BASE, settings.STRIPE_READ_SECONDS = "http://127.0.0.1:9", 0.2
    provider.gateway.cache_clear()
    found = answer(capsys, "seed", "demo", "--bookings", "4")
    assert "payments" not in found["summary"]["added"] and Listing.objects.exists()
    assert any("did not answer" in warning for warning in found["warnings"])


@pytest.mark.django_db
def test_a_desk_with_homes_of_its_own_is_left_alone(
    demo: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["seed", "inside-airbnb", str(export(tmp_path / "a")), *GHENT]) == Exit.DONE
    capsys.readouterr()
    found = answer(capsys, "seed", "demo", "--if-empty")
    assert found["data"] == [] and "homes of its own" in found["warnings"][0]
    assert Listing.objects.count() == 1 and not User.objects.filter(is_staff=True).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("switch", ["DEBUG", "SANDBOXED"])
def test_where_money_is_real_there_is_no_demo(
    demo: None, settings: Any, switch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    setattr(settings, switch, False)
    assert main(["seed", "demo"]) == Exit.REFUSED
    assert not User.objects.exists()
