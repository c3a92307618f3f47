"""How a start is told: lines or a spinner for a person, JSON lines for the process that waits for a detached desk."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from rich.progress import Progress


class Reporter(Protocol):
    """Told what is going on."""

    def begin(self, text: str) -> None:
        """A step that may take a while begins."""

    def end(self, text: str) -> None:
        """The step that began last has ended well."""

    def warn(self, text: str) -> None:
        """Something a person should know that does not stop the desk."""


class Person:
    """Tells a person, on stderr: a spinner with the elapsed time on a terminal, one line a step elsewhere."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._bar: Progress | None = None

    def begin(self, text: str) -> None:
        self._began = time.monotonic()
        self._clear()
        if not sys.stderr.isatty():
            click.echo(f"{text} …", err=True)
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.add_task(text, total=None)
        self._bar.start()

    def end(self, text: str) -> None:
        self._clear()
        click.secho(f"  {text} ({time.monotonic() - self._began:.1f} s)", err=True, dim=True)

    def warn(self, text: str) -> None:
        self._clear()
        click.secho(f"! {text}", fg="yellow", err=True)

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextmanager
    def closing(self) -> Iterator[Person]:
        """Leave no spinner behind, however the step ended."""
        try:
            yield self
        finally:
            self._clear()


class Pipe:
    """Tells another process, by JSON lines; falls silent when it has gone."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def begin(self, text: str) -> None:
        self.tell(begin=text)

    def end(self, text: str) -> None:
        self.tell(end=text)

    def warn(self, text: str) -> None:
        self.tell(warn=text)

    def tell(self, **fact: Any) -> None:
        try:
            self._stream.write(json.dumps(fact) + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            return


class Journal:
    """Writes lines with the time, for the log of a detached desk."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def begin(self, text: str) -> None:
        self._line(text)

    def end(self, text: str) -> None:
        self._line(text)

    def warn(self, text: str) -> None:
        self._line(f"! {text}")

    def _line(self, text: str) -> None:
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=self._stream, flush=True)
