from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta

import pytest

from backoffice.core.errors import Invalid
from backoffice.notifications import policies

NOON = datetime(2026, 7, 10, 12, tzinfo=UTC)
TOPICS = policies.TOPICS["en"]


def facts(topic: str) -> dict[str, str]:
    return {name: f"<{name}>" for name in TOPICS[topic].fields}


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_has_a_subject_of_one_line_and_whole_sentences(topic: str) -> None:
    message = policies.write(topic=topic, context=facts(topic))
    assert message.subject
    assert "\n" not in message.subject
    assert message.text.endswith(".")
    assert message.body == f"Hello,\n\n{message.text}\n\nStaydesk\n"
    assert "{" not in message.subject + message.body + message.link


@pytest.mark.parametrize(
    ("topic", "field"), [(topic, field) for topic in TOPICS for field in sorted(TOPICS[topic].fields)]
)
def test_a_missing_field_is_named(topic: str, field: str) -> None:
    context = facts(topic)
    del context[field]
    with pytest.raises(Invalid, match=f"{topic} also needs {field}"):
        policies.write(topic=topic, context=context)


def test_every_language_knows_the_same_fields() -> None:
    for language, topics in policies.TOPICS.items():
        for topic, words in topics.items():
            assert words.fields <= TOPICS[topic].fields, (language, topic)


def test_a_language_without_the_topic_falls_back_to_english() -> None:
    assert policies.write(topic="welcome", context={}, language="xx").subject == TOPICS["welcome"].subject


def test_an_unknown_topic_is_refused() -> None:
    with pytest.raises(Invalid, match="no words for 'farewell'"):
        policies.write(topic="farewell", context={})


def test_a_person_is_greeted_by_name() -> None:
    assert policies.write(topic="welcome", context={"name": "Ada"}).body.startswith("Hello Ada,\n")


def test_what_a_person_wrote_can_neither_add_a_header_nor_reach_into_the_template() -> None:
    context = {**facts("booking_confirmed"), "listing": "Loft\nBcc: all@example.org {total.__class__}"}
    message = policies.write(topic="booking_confirmed", context=context)
    assert "\n" not in message.subject
    assert "{total.__class__}" in message.text


def test_fields_are_plain_names() -> None:
    names = {
        name
        for topics in policies.TOPICS.values()
        for words in topics.values()
        for part in (words.subject, words.text, words.link)
        for _, name, _, _ in string.Formatter().parse(part)
        if name is not None
    }
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize(
    ("attempts", "action", "minutes"),
    [
        (1, "fail", 1),
        (2, "fail", 2),
        (3, "fail", 4),
        (4, "fail", 8),
        (5, "fail", 16),
        (6, "fail", 32),
        (7, "fail", 64),
        (8, "give_up", 0),
    ],
)
def test_an_e_mail_is_tried_eight_times_with_doubling_pauses(attempts: int, action: str, minutes: int) -> None:
    verdict = policies.after_failure(channel="email", attempts=attempts, now=NOON)
    assert verdict == policies.Verdict(action, NOON + timedelta(minutes=minutes))


@pytest.mark.parametrize("attempts", [1, 8, 10_000])
def test_a_task_is_never_given_up(attempts: int) -> None:
    verdict = policies.after_failure(channel="task", attempts=attempts, now=NOON)
    assert verdict == policies.Verdict("fail", NOON + policies.TASK_PAUSE)
