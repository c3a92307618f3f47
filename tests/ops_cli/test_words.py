"""Words of which there are only so many, as they are typed: one that nothing can have is no question with an empty answer."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from ops_cli.main import main, ops
from ops_cli.words import OneOf
from tests.ops_cli.commands_docs import commands


def asked() -> Iterator[tuple[tuple[str, ...], str, OneOf]]:
    for path, command in commands(ops, ("ops",)):
        for parameter in command.params:
            if isinstance(parameter.type, OneOf):
                yield path[1:], parameter.opts[0], parameter.type


ASKED = list(asked())


@pytest.mark.parametrize(
    ("path", "option", "kind"), ASKED, ids=[" ".join([*path, option]) for path, option, _ in ASKED]
)
def test_a_word_that_nothing_can_have_is_refused_with_those_there_are(
    path: tuple[str, ...], option: str, kind: OneOf, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kind.words and all(kind.convert(word, None, None) == word for word in kind.words)
    assert main([*path, option, "filed"]) == 2
    said = capsys.readouterr().err
    assert option in said and "'filed' is none of them" in said and all(word in said for word in kind.words)


@pytest.mark.parametrize(
    "path",
    ["payouts list", "refunds list", "webhooks list", "webhooks replay", "breaks list", "jobs list", "outbox list"],
)
def test_no_list_takes_a_status_that_there_is_not(path: str) -> None:
    assert (tuple(path.split()), "--status") in [(each, option) for each, option, _ in ASKED]


def test_none_given_is_none_asked_for() -> None:
    assert OneOf("backoffice.jobs.states:RUN.statuses").convert("", None, None) == ""
    with pytest.raises(click.BadParameter, match="running, succeeded"):
        OneOf("backoffice.jobs.states:RUN.statuses").convert("Running", None, None)
