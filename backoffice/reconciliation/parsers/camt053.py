"""Bank statements in camt.053 (ISO 20022, BankToCustomerStatement), versions 2 to 14.

Read with the standard library behind defusedxml, which refuses document types and entities. The libraries looked at in
November 2026 either report the details of a collective entry with the whole entry's amount each (pycamt 1.1.1), which would
count the money several times, or bring a web server with them (camt053 0.0.23). What moves the account is the entry; its
details only say what it was for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.reconciliation.policies import SeenStatementLine

_NAMESPACE: Final = re.compile(r"\{urn:(?:[a-z0-9:.]*:)?camt\.053\.001\.\d{2}\}")
_OPENING: Final = ("OPBD", "PRCD")
_CLOSING: Final = "CLBD"


def read(content: bytes) -> list[SeenStatementLine]:
    """The booked entries of every statement in the document, in its order; pending ones are not booked yet.

    Raises Invalid (field `file`) for what is no camt.053, is not complete, or whose balances its entries do not explain."""
    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException) as error:
        raise _invalid(f"it is not XML that may be read ({type(error).__name__}: {error})") from None
    if not _NAMESPACE.match(root.tag):
        raise _invalid("it is not a camt.053 document; ask the bank for “bank to customer statement”")
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    statements = root.findall("BkToCstmrStmt/Stmt")
    if not statements:
        raise _invalid("it holds no statement")
    return [line for statement in statements for line in _statement(statement)]


def _statement(statement: Element) -> Iterator[SeenStatementLine]:
    account = _text(statement, "Acct/Id/IBAN") or _text(statement, "Acct/Id/Othr/Id")
    if not account:
        raise _invalid("a statement does not name its account")
    lines = []
    for number, entry in enumerate(statement.findall("Ntry"), start=1):
        try:
            lines += [_line(entry, account)] if _booked(entry) else []
        except ValueError as error:
            raise _invalid(f"entry {number}: {error}") from None
    _check_balances(statement, lines)
    yield from lines


def _booked(entry: Element) -> bool:
    return (_text(entry, "Sts/Cd") or _text(entry, "Sts")) == "BOOK"


def _line(entry: Element, account: str) -> SeenStatementLine:
    details = entry.findall("NtryDtls/TxDtls")
    booked_on = _date(entry, "BookgDt")
    texts = [_text(entry, "AddtlNtryInf")]
    traces = []
    for detail in details:
        texts += [each.text or "" for each in detail.findall("RmtInf/Ustrd")]
        texts.append(_text(detail, "RmtInf/Strd/CdtrRefInf/Ref"))
        traces += [_text(detail, f"Refs/{name}") for name in ("EndToEndId", "TxId", "InstrId", "UETR")]
    return SeenStatementLine(
        account=account,
        reference=_text(entry, "AcctSvcrRef") or _text(entry, "NtryRef"),
        amount=_signed(entry),
        booked_on=booked_on,
        value_on=_date(entry, "ValDt", booked_on),
        trace=" ".join(_once(trace for trace in traces if trace and trace != "NOTPROVIDED"))[:120],
        text=" ".join(" ".join(_once(filter(None, texts))).split())[:500],
        returned=_text(entry, "RvslInd") == "true" or any(detail.find("RtrInf") is not None for detail in details),
    )


def _check_balances(statement: Element, lines: list[SeenStatementLine]) -> None:
    """Opening + entries = closing, where the bank says both; a page that is missing shows here."""
    said: dict[str, Money] = {}
    for balance in statement.findall("Bal"):
        code = _text(balance, "Tp/CdOrPrtry/Cd")
        try:
            said.setdefault(code, _signed(balance))
        except ValueError as error:
            raise _invalid(f"balance {code}: {error}") from None
    opening = next((said[code] for code in _OPENING if code in said), None)
    closing = said.get(_CLOSING)
    if opening is None or closing is None:
        return
    moved = Money.sum((line.amount for line in lines if line.amount.currency == closing.currency), closing.currency)
    if opening + moved != closing:
        raise _invalid(
            f"the statement opens with {opening}, its entries come to {moved}, and it closes with {closing}: "
            "an entry is missing; ask the bank for the whole statement"
        )


def _signed(element: Element) -> Money:
    amount = element.find("Amt")
    direction = _text(element, "CdtDbtInd")
    if amount is None or direction not in {"CRDT", "DBIT"}:
        raise ValueError("an amount or its direction is missing")
    try:
        money = Money.parse((amount.text or "").strip(), amount.get("Ccy", ""))
    except (ValueError, ArithmeticError):
        raise ValueError(f"{amount.text!r} {amount.get('Ccy', '')} is no amount") from None
    return money if direction == "CRDT" else -money


def _date(element: Element, name: str, otherwise: date | None = None) -> date:
    text = _text(element, f"{name}/Dt") or _text(element, f"{name}/DtTm")
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        if otherwise is None:
            raise ValueError(f"no date in {name}") from None
        return otherwise


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _once(words: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _invalid(why: str) -> Invalid:
    return Invalid(f"file: {why}.", field="file")
