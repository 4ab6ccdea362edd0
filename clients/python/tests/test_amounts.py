"""Amounts are exact or refused, in the same way in every client."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from driver import SCENARIOS, load
from google.type.money_pb2 import Money
from matching import Json
from ordersystem_client import CURRENCIES, amount_of, money
from server import ROOT

CASES = load(SCENARIOS / "money" / "cases.yaml")


def parts(case: Json) -> Money:
    return Money(currency_code=case["currency"], units=int(case["units"]), nanos=case["nanos"])


@pytest.mark.parametrize("case", CASES["exact"], ids=lambda case: f"{case['amount']} {case['currency']}")
def test_an_amount_becomes_money_and_is_shown_with_the_decimals_of_its_currency(case: Json) -> None:
    made = money(case["amount"], case["currency"])
    assert made == parts(case)
    assert money(Decimal(case["amount"]), case["currency"]) == made
    assert str(amount_of(made)) == case.get("shown", case["amount"])


@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: f"{case['amount']!r} {case['currency']}")
def test_what_is_no_exact_amount_is_refused(case: Json) -> None:
    with pytest.raises(ValueError):
        money(case["amount"], case["currency"])


@pytest.mark.parametrize("case", CASES["shown"], ids=lambda case: case["shown"])
def test_what_the_service_may_say_is_shown(case: Json) -> None:
    assert str(amount_of(parts(case))) == case["shown"]


@pytest.mark.parametrize("case", CASES["malformed"])
def test_parts_that_do_not_go_together_are_refused(case: Json) -> None:
    with pytest.raises(ValueError):
        amount_of(parts(case))


def test_decimals_and_whole_numbers_are_taken_and_floats_are_not() -> None:
    assert money(3, "USD") == Money(currency_code="USD", units=3)
    assert money(Decimal("1E+3"), "JPY") == Money(currency_code="JPY", units=1_000)
    for amount in (Decimal("1E-999999"), Decimal("1E+999999"), Decimal("NaN"), Decimal("-Infinity"), 2**63):
        with pytest.raises(ValueError):
            money(amount, "USD")
    for wrong in (19.99, True, None):
        with pytest.raises(TypeError):
            money(wrong, "USD")  # type: ignore[arg-type]


def test_the_currencies_are_those_of_the_service() -> None:
    source = (ROOT / "src" / "domain" / "money.rs").read_text()
    table = re.search(r"CODES_BY_EXPONENT[^=]*= \[(.*?)^\];", source, re.S | re.M)
    assert table
    known = {
        code: int(digits)
        for digits, codes in re.findall(r'\(\s*(\d),\s*"([^"]*)"', table[1])
        for code in codes.replace("\\", "").split()
    }
    assert len(known) > 150
    assert CURRENCIES == known
