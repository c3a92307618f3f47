"""The launcher on a project of its own: a bare Python, a package that lies in a directory, no network."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def make_wheel(directory: Path, version: str) -> str:
    """Write a package of one module and return its sha256."""
    name = f"tinything-{version}"
    files = {
        "tinything.py": f"version = '{version}'\n",
        f"{name}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: tinything\nVersion: {version}\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={digest},{len(text)}\n")
    files[f"{name}.dist-info/RECORD"] = "".join(record) + f"{name}.dist-info/RECORD,,\n"
    wheel = directory / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


class Project:
    """A project with our launcher, whose only dependency comes from a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wheels = path.parent / "wheels"
        self.wheels.mkdir()
        self.digests = {version: make_wheel(self.wheels, version) for version in ("1.0", "2.0")}
        (path / "ops_cli").mkdir(parents=True)
        (path / "requirements").mkdir()
        shutil.copy(ROOT / "ops", path / "ops")
        shutil.copy(ROOT / "ops_cli" / "install.py", path / "ops_cli")
        (path / "ops_cli" / "__init__.py").touch()
        (path / "ops_cli" / "main.py").write_text(
            "import os, sys, tinything\nprint(tinything.version, os.getcwd(), *sys.argv[1:])\n"
        )
        self.pin("1.0")

    def pin(self, version: str, digest: str = "") -> None:
        line = f"tinything=={version} --hash=sha256:{digest or self.digests[version]}\n"
        for name in ("run", "test"):
            (self.path / "requirements" / f"{name}.txt").write_text(line)

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return kept | offline | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | changes

    def start(self, *arguments: str, cwd: Path | None = None, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.path / "ops", *arguments],
            cwd=cwd or self.path,
            env=self.environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None, **changes: str) -> tuple[int, str, str]:
        process = self.start(*arguments, cwd=cwd, **changes)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("launcher") / "a project")


@pytest.fixture(autouse=True)
def _pinned_as_at_first(project: Project) -> Iterator[None]:
    project.pin("1.0")
    yield
    project.pin("1.0")


def test_two_first_runs_at_once_install_once_and_both_run(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.path / ".venv", ignore_errors=True)
    runs = [project.start("one", cwd=tmp_path), project.start("two", "a b", cwd=tmp_path)]
    answers = [run.communicate(timeout=240) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], answers
    assert [out for out, _ in answers] == [f"1.0 {tmp_path} one\n", f"1.0 {tmp_path} two a b\n"]
    told = "".join(err for _, err in answers)
    assert told.count("dependencies ready") == 1
    assert "installing 1 pinned packages" in told


def test_a_second_run_says_nothing_and_installs_nothing(project: Project) -> None:
    project.run()
    assert project.run("x", PIP_FIND_LINKS="/nowhere") == (0, f"1.0 {project.path} x\n", "")


def test_changed_pins_are_installed_and_only_they(project: Project) -> None:
    project.run()
    project.pin("2.0")
    code, out, err = project.run()
    assert (code, out) == (0, f"2.0 {project.path}\n")
    assert "making .venv" not in err


def test_a_directory_with_a_name_of_ours_is_not_run_in_its_place(project: Project, tmp_path: Path) -> None:
    project.run()
    (tmp_path / "ops_cli").mkdir()
    (tmp_path / "ops_cli" / "main.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "tinything.py").write_text("raise SystemExit('the wrong one')")
    assert project.run(cwd=tmp_path) == (0, f"1.0 {tmp_path}\n", "")


def test_it_runs_through_a_symbolic_link(project: Project, tmp_path: Path) -> None:
    link = tmp_path / "ops"
    link.symlink_to(project.path / "ops")
    said = subprocess.run([link], env=project.environment(), cwd="/", capture_output=True, text=True, check=False)
    assert said.stdout == "1.0 /\n"


def test_a_package_that_differs_from_its_pin_is_refused(project: Project) -> None:
    project.pin("2.0", digest="0" * 64)
    code, out, err = project.run()
    assert (code, out) == (1, "")
    assert "a package is not the one that was pinned" in err.splitlines()[-1]
    project.pin("1.0")
    assert project.run()[:2] == (0, f"1.0 {project.path}\n"), "and the next good run recovers"


def test_a_package_that_is_not_there_names_the_remedy(project: Project) -> None:
    project.pin("3.0", digest="0" * 64)
    code, _, err = project.run()
    assert code == 1
    assert "STAYDESK_PYTHON" in err.splitlines()[-1]


def test_an_index_that_does_not_answer_is_safe_to_retry(project: Project) -> None:
    project.pin("2.0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        code, _, err = project.run(PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=index, PIP_RETRIES="1")
    assert code == 7
    assert "did not answer" in err.splitlines()[-1]


def test_an_install_that_was_killed_is_done_again(project: Project) -> None:
    project.run()
    project.pin("2.0")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        process = project.start(PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=index)
        silent.settimeout(120)
        connection, _ = silent.accept()  # pip asks the index, which never answers
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        connection.close()
    code, out, err = project.run()
    assert (code, out) == (0, f"2.0 {project.path}\n")
    assert "making .venv" in err, "nobody knows what a killed install left, so it starts anew"


def test_ctrl_c_during_the_install_ends_it_and_its_pip(project: Project) -> None:
    project.run()
    project.pin("2.0")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        process = project.start(PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=index)
        silent.settimeout(120)
        connection, _ = silent.accept()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        connection.close()
    assert process.returncode in {130, -signal.SIGINT}, "a shell that was interrupted too says so by its signal"
    assert "interrupted" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_name_on_the_path_that_does_not_run_is_passed_over(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.path / ".venv", ignore_errors=True)
    for name in ("python3.13", "python3.12"):
        shim = tmp_path / name
        shim.write_text("#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
    (tmp_path / "python3.11").symlink_to(os.path.realpath(sys.executable))
    code, out, _ = project.run(PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (code, out) == (0, f"1.0 {project.path}\n")


@pytest.mark.parametrize("named", ["/bin/false", "/nowhere/python3"])
def test_a_python_named_by_hand_must_be_one(project: Project, named: str) -> None:
    code, _, err = project.run(STAYDESK_PYTHON=named)
    assert code == 1
    assert err.startswith(f"ops: STAYDESK_PYTHON={named} is not a Python 3.11, 3.12 or 3.13")
    assert len(err.splitlines()) == 1


def test_without_a_python_it_says_what_to_install(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.path / ".venv", ignore_errors=True)
    for name in ("sh", "dirname", "readlink", "cmp", "cat"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    code, _, err = project.run(PATH=str(tmp_path))
    assert code == 1
    assert "no Python 3.11, 3.12 or 3.13 with venv on the PATH; install one" in err
    assert len(err.splitlines()) == 1


def test_the_launcher_adds_little_to_the_command(project: Project) -> None:
    project.run()

    def seconds() -> float:
        began = time.perf_counter()
        project.run()
        return time.perf_counter() - began

    def bare() -> float:
        began = time.perf_counter()
        subprocess.run([project.path / ".venv" / "bin" / "python", "-c", ""], check=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < min(bare() for _ in range(5)) + 0.15


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))


def test_what_the_tests_need_contains_what_a_desk_needs() -> None:
    assert pins("run").items() <= pins("test").items()
    assert len(pins("run")) > 50


@pytest.mark.parametrize("name", ["run", "test"])
def test_every_pin_has_hashes_and_none_has_an_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--index" not in text
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]
