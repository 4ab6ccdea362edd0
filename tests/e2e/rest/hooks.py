"""The rules that schemas of the OpenAPI document cannot express, for schemathesis: which values exist, and which combinations are valid.

Values that only the service can issue (ids of orders, page tokens, cursors, consistency tokens) are taken from its own replies, so that
requests reach the code behind the validation. Parts of a request that are meant to be wrong are not changed.
"""

import itertools
import re
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qs, urlsplit

import schemathesis
from schemathesis.core.parameters import ParameterLocation

MAX_KNOWN_IDS = 64
MAX_PRICE = 1000
counter = itertools.count()
# The ids of orders, and the tokens from pages and replies, newest last. A page token belongs to one query.
order_ids, issued_tokens = [], {}


def is_positive(case, location):
    return case.meta is None or not case.meta.is_negative_at(location)


@schemathesis.hook
def before_call(context, case, kwargs):
    for name in ["If-Match", "If-None-Match"]:
        # schemathesis 4.32 generates an empty value for this pattern, which does not match it.
        if case.headers.get(name) == "":
            case.headers[name] = '"1"'
    if is_positive(case, ParameterLocation.PATH):
        use_known_id(case)
    if is_positive(case, ParameterLocation.QUERY):
        fix_query(case.query)
    if is_positive(case, ParameterLocation.HEADER):
        fix_headers(case.headers)
    if is_positive(case, ParameterLocation.BODY) and isinstance(case.body, dict):
        case.body = integral_floats_as_int(case.body)
        fix_items(case.body)


def use_known_id(case):
    """Three times out of four an existing order; otherwise the generated value."""
    number = next(counter)
    if "id" in case.path_parameters and order_ids and number % 4:
        case.path_parameters["id"] = order_ids[number % len(order_ids)]


def fix_query(query):
    if "revision" in query:
        query.pop("asOf", None)
    if "type" in query:
        query.pop("status", None)
    replace(query, "cursor", issued_tokens.get("cursor"))
    if query.pop("pageToken", None) is not None and "pageToken" in issued_tokens:
        # A token belongs to the filters that it was issued for.
        query.clear()
        query.update(issued_tokens["pageToken"])


def fix_headers(headers):
    # Streams do not end; tests/api/rest_streams.rs has them.
    headers.pop("Last-Event-ID", None)
    if "," in headers.get("If-Match", ""):
        headers.pop("Idempotency-Key", None)
    replace(headers, "X-Consistency-Token", issued_tokens.get("token"))


def integral_floats_as_int(value):
    """JSON Schema accepts 2.0 as an integer; the service requires integers written as such."""
    if isinstance(value, dict):
        return {name: integral_floats_as_int(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [integral_floats_as_int(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def fix_items(body):
    """One currency, and prices that fit into it for any number of pieces."""
    for item in body.get("items", []):
        item.pop("currency", None)
        decimals = 2 if body.get("currency") is None else 0
        if not is_valid_price(str(item["price"]), decimals):
            item["price"] = 1


def is_valid_price(price, decimals):
    try:
        return Decimal(price) <= MAX_PRICE and Decimal(price) == round(Decimal(price), decimals)
    except InvalidOperation:
        # An exponent that Python cannot handle.
        return False


def replace(values, name, value):
    if values.pop(name, None) is not None and value is not None:
        values[name] = value


@schemathesis.hook
def after_call(context, case, response):
    """Remembers the values that the service has issued."""
    headers = {name.lower(): values[0] for name, values in response.headers.items()}
    if "x-consistency-token" in headers:
        issued_tokens["token"] = headers["x-consistency-token"]
    if response.status_code == 201:
        order_ids.append(headers["location"].rsplit("/", 1)[1])
        del order_ids[:-MAX_KNOWN_IDS]
    link = re.match("<(.*)>", headers.get("link", ""))
    if link:
        query = {name: values[0] for name, values in parse_qs(urlsplit(link[1]).query).items()}
        if "pageToken" in query:
            issued_tokens["pageToken"] = query
        if "cursor" in query:
            issued_tokens["cursor"] = query["cursor"]
