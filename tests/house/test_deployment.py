"""The files of a production desk, read as what they are. No container engine is at hand: nothing here was run in one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backoffice import settings
from ops_cli.parts import plan

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = ("web", "worker", "beat", "migrate")


def test_every_part_of_a_desk_is_a_service() -> None:
    assert set(SERVICES) == {"nginx", "web", "worker", "beat", "migrate", "postgres", "redis"}
    assert SERVICES["postgres"]["image"].startswith("postgres:18")


def test_only_nginx_is_public() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    assert [name for name, service in SERVICES.items() if "outside" in service["networks"]] == ["nginx"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_has_a_health_check(name: str) -> None:
    has_one = "healthcheck" in SERVICES[name] or (name == "web" and "HEALTHCHECK" in DOCKERFILE)
    assert has_one


@pytest.mark.parametrize("name", OURS)
def test_our_services_wait_for_what_they_need_and_may_nothing_more(name: str) -> None:
    service = SERVICES[name]
    assert service["depends_on"]["postgres"]["condition"] == "service_healthy"
    if name != "migrate":
        assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_get_settings_of_the_house_and_no_secret_from_the_repository(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert set(environment) <= set(settings.ENVIRONMENT)
    assert environment["DEBUG"] == "0"
    for key, value in environment.items():
        if settings.ENVIRONMENT[key].secret:
            assert "${" in value and ":?" in value, f"{key} comes from the environment, and its absence is an error"


def test_the_settings_that_a_production_desk_cannot_do_without_are_given() -> None:
    needed = set("SECRET_KEY DATABASE_URL REDIS_URL STRIPE_API_KEY STRIPE_WEBHOOK_SECRET ALLOWED_HOSTS".split())
    needed.add("STRIPE_CONNECT_WEBHOOK_SECRET")
    assert needed <= set(SERVICES["web"]["environment"])
    assert needed <= set(plan.SETTINGS)


def test_volumes_and_networks_that_are_used_are_declared() -> None:
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "/", "$"))
    }
    assert used == set(COMPOSE["volumes"])
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(COMPOSE["networks"])


def test_the_image_is_built_in_stages_from_pins_and_runs_as_nobody_special() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(stages) == 2
    last = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert re.search(r"^USER staydesk$", last, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert json.loads(re.search(r"^CMD (\[.*?\])", last.replace("\\\n", ""), re.MULTILINE)[1])[0] == "granian"  # type: ignore[index]


def test_everything_that_the_image_copies_is_there_and_reaches_the_engine() -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in let_in, source


def test_nginx_passes_on_one_address_and_the_scheme() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    assert "proxy_set_header X-Forwarded-Proto https;" in text
    assert SERVICES["web"]["environment"]["PROXIES"] == "1"
    assert "server web:8000 resolve;" in text


def test_the_workflow_runs_what_a_developer_runs_on_every_python_we_support() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert "./ops test" in (ROOT / ".ci" / "run").read_text()
