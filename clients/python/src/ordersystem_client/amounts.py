"""Amounts of money, exact: between decimals and the units and nanos of ``google.type.Money``."""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact
from importlib import resources

from google.type.money_pb2 import Money

_NANOS_PER_UNIT = 10**9
#: The service's range: 64 bits of minor units.
_MOST_MINOR_UNITS = 2**63 - 1
#: Refuses inexact operations. More digits than an amount can have, but few enough to be cheap.
_EXACT = Context(prec=60, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[Inexact])
_LINES = resources.files(__package__).joinpath("currencies.txt").read_text("utf-8").split("\n")

#: The currencies that the service accepts, with the decimal digits of their minor unit: 2 for USD (cents), 0 for JPY.
CURRENCIES = {code: int(digits) for code, digits in (line.split() for line in _LINES if line)}


def money(amount: Decimal | str | int, currency: str) -> Money:
    """An amount as a proto message: ``money("19.99", "USD")``.

    ``amount`` is exact: a ``Decimal``, a plain decimal number as text (``-1.75``), or a whole number of units. Never a ``float``.

    Raises ``ValueError`` if the currency is unknown, the text is not a plain decimal number, the amount is finer than the minor unit of the
    currency, or larger than 2^63 - 1 minor units. Negative amounts are valid, although no order of the service can have one.
    """
    if currency not in CURRENCIES:
        raise ValueError(f"{currency!r} is not the code of a currency that the service takes")
    value = _exact(amount)
    decimals = CURRENCIES[currency]
    if not value.is_finite():
        raise ValueError(f"{amount} is not a number")
    if value.copy_abs() > _MOST_MINOR_UNITS:
        raise ValueError(f"{amount} {currency} is too large")
    try:
        minor = int(value.scaleb(decimals, _EXACT).to_integral_exact(context=_EXACT))
    except Inexact:
        raise ValueError(f"{amount} has more decimals than the {decimals} of {currency}") from None
    if abs(minor) > _MOST_MINOR_UNITS:
        raise ValueError(f"{amount} {currency} is too large")
    units, fraction = divmod(abs(minor), 10**decimals)
    sign = -1 if minor < 0 else 1
    nanos = fraction * (_NANOS_PER_UNIT // 10**decimals)
    return Money(currency_code=currency, units=sign * units, nanos=sign * nanos)


def amount_of(money: Money) -> Decimal:
    """The amount of a proto message: ``Decimal("19.99")``, with all decimals of the currency.

    Raises ``ValueError`` if units and nanos contradict each other.
    """
    signs_agree = money.units * money.nanos >= 0
    if not signs_agree or abs(money.nanos) >= _NANOS_PER_UNIT:
        raise ValueError(f"units {money.units} and nanos {money.nanos} do not go together")
    sign = "-" if money.units < 0 or money.nanos < 0 else ""
    fraction = f"{abs(money.nanos):09}".rstrip("0").ljust(CURRENCIES.get(money.currency_code, 0), "0")
    return Decimal(f"{sign}{abs(money.units)}" + (f".{fraction}" if fraction else ""))


def _exact(amount: Decimal | str | int) -> Decimal:
    if isinstance(amount, str):
        if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", amount):
            raise ValueError(f"{amount!r} is not a plain decimal number")
        return Decimal(amount)
    if isinstance(amount, (Decimal, int)) and not isinstance(amount, bool):
        return Decimal(amount)
    raise TypeError(f"an amount is a Decimal, text or an int, not {type(amount).__name__}")
