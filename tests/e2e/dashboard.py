#!/usr/bin/env python3
"""The console and Swagger UI in a real browser: the work of a support agent and an operator, the connection state, accessibility and layout.

usage: dashboard.py BINARY [--pictures FOLDER]
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

from browser import Browser
from console import craft, navigation, operations, orders, truth
from harness import Node, Redis, folder_of_brokers

# The console polls a node every 5 s.
TWO_POLLS_S = 11


def swagger(browser):
    browser.open("/swagger")
    if not browser.wait_for_source("/orders/{id}/pay"):
        yield "Swagger UI does not show a route"
    if not browser.wait_for_source("Authorize"):
        yield "Swagger UI does not accept a key"


def swagger_with_key(browser, key):
    """Swagger UI sends the key, and a call without it is refused."""
    status = "return document.querySelector('.live-responses-table tbody .response-col_status')?.innerText ?? ''"
    browser.open("/swagger")
    browser.click("[id$=-getStats] .opblock-summary-control")
    browser.click("[id$=-getStats] .try-out__btn")
    browser.click("[id$=-getStats] .execute")
    if not browser.wait_for("an answer", status).startswith("401"):
        yield f"Swagger UI without a key is answered {browser.run(status)}"
    browser.click(".auth-wrapper .authorize")
    browser.wait_for("the form", "return document.querySelector('.auth-container input') !== null")
    browser.type(".auth-container input", key)
    browser.click(".auth-btn-wrapper .authorize")
    browser.click(".auth-btn-wrapper .btn-done")
    browser.click("[id$=-getStats] .execute")
    try:
        browser.wait_for("the answer with the key", "return (document.querySelector('.live-responses-table tbody .response-col_status')?.innerText ?? '').startsWith('200')")
    except AssertionError:
        yield f"Swagger UI with a key is answered {browser.run(status)}"


def check_console(browser, pictures):
    """All problems found on a node whose callers are not identified."""
    parts = [
        craft.page_weight, orders.life_of_an_order, orders.live, orders.hidden_tab, orders.hostile_text, orders.money_is_exact, truth.ten_tabs,
        operations.check_operations, operations.root_cause,
        operations.dead_letter_counts, operations.durations,
        navigation.addresses, navigation.way_back, navigation.filters, craft.theme, craft.keyboard, craft.dialog,
    ]
    for part in parts:
        yield from part(browser)
        yield from (f"{part.__name__}: {error}" for error in browser.errors())
    yield from craft.every_view(browser, pictures)
    yield from swagger(browser)


def check_with_key(browser, key):
    """All problems found where callers are identified."""
    browser.open("/dashboard")
    if not browser.wait_for_text("Log in to see this", "main"):
        yield "the console does not require a key"
    if not browser.wait_for_text("logged out", "#connection"):
        yield "the console does not say that nobody is logged in"
    if not browser.becomes("return document.activeElement.id === 'key'"):
        yield "the field for the key does not have the focus"
    yield from (f"login: {violation}" for violation in browser.violations())
    if browser.source_contains("customer-of-the-test"):
        yield "the console shows orders without a key"
    browser.wait_for("no link leads to a refusal", "return document.querySelector('#metrics').hidden")
    # Its first requests were refused; after that it waits for a key.
    calls = "return performance.getEntriesByType('resource').filter(({ name }) => /\\/(stats|orders|metrics|events)\\b/.test(name)).length"
    before = browser.run(calls)
    time.sleep(TWO_POLLS_S)
    if browser.run(calls) != before:
        yield "a tab without a key repeats refused requests"
    browser.log_in("orderkey_" + 43 * "x")
    if not browser.wait_for_text("The API key is not known here"):
        yield "the console does not say that a key is wrong"
    browser.log_in(key)
    if not browser.wait_for_text("customer-of-the-test", "#orders"):
        yield "the orders are not shown to a caller with a key"
    if not browser.wait_for_text("live", "#connection"):
        yield "the console does not follow events with a key"
    order = {"customerId": "customer-after-login", "items": [{"productId": "p", "quantity": 1, "price": "1"}]}
    order = browser.node.call("POST", "/orders", order, {"Authorization": f"Bearer {key}"})["orderId"]
    if not browser.wait_for_text("customer-after-login", "#orders"):
        yield "a new order does not appear in the list of a caller with a key"
    browser.navigate("#/operations")
    if not browser.wait_for_text("the identity file is in use", "main"):
        yield "an operator does not see the details of health"
    if key in browser.call("GET", "/source") or key in browser.call("GET", "/url"):
        yield "the key is in the page or its address"
    yield from check_as_reader(browser, order)
    yield from swagger_with_key(browser, key)


def check_as_reader(browser, order):
    """A caller with the role reader is told that it may neither change orders nor operate the node."""
    browser.click("#logout")
    browser.wait_for_text("Log in to see this", "main")
    browser.log_in(browser.reader)
    browser.navigate(f"#/orders/{order}")
    orders.perform_action(browser, "pay")
    if not orders.has_refusal(browser, "You may not do this"):
        yield "a reader is not told that it may not pay"
    browser.press(craft.ESCAPE)
    browser.navigate("#/operations")
    if not browser.wait_for_text("This is for operators", "main"):
        yield "a reader is not told that metrics are for operators"
    browser.navigate("#/dead-letters")
    if not browser.wait_for_text("You may not see this", "main"):
        yield "a reader is not told that dead letters are for operators"


def with_keys(binary, folder):
    """A key with every role that the console needs, a key of a reader, and the identity file with both."""
    keys, entries = [], []
    for name, roles in [("console", ("reader", "writer", "events", "operator")), ("reader", ("reader", "events"))]:
        flags = [part for role in roles for part in ("--role", role)]
        made = subprocess.run([binary, "keys", "new", name, *flags], capture_output=True, text=True, check=True).stdout
        key, _, entry = made.partition("\n\n")
        keys.append(key)
        entries.append(entry)
    identities = pathlib.Path(folder) / "identities.toml"
    identities.write_text("\n".join(entries))
    return *keys, str(identities)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--pictures", help="a folder for screenshots of each view")
    parser.add_argument("--orders", type=int, default=orders.MANY, help="the number of orders for the search test")
    options = parser.parse_args()
    failures = []
    with Node(options.binary).until_ready() as node, Browser(node) as browser:
        failures += check_console(browser, options.pictures)
    with Node(options.binary).until_ready() as node, Browser(node) as browser:
        failures += truth.server_unreachable_and_back(browser)
    with Node(options.binary).until_ready() as node, Browser(node) as browser:
        failures += orders.search_among_many(browser, options.orders)
    with folder_of_brokers() as folder, Redis(folder) as redis:
        flags = ["--persistence", "redis", "--transport", "redis", "--redis", f"127.0.0.1:{redis.port}"]
        with Node(options.binary, *flags).until_ready() as node, Browser(node) as browser:
            failures += operations.dead_letters(browser, redis)
            failures += operations.store_unreachable(browser, redis)
    with tempfile.TemporaryDirectory() as folder:
        key, reader, identities = with_keys(options.binary, folder)
        with Node(options.binary, "--identities", identities).until_ready() as node, Browser(node) as browser:
            browser.reader = reader
            order = {"customerId": "customer-of-the-test", "items": [{"productId": "p", "quantity": 1, "price": "1"}]}
            node.call("POST", "/orders", order, {"Authorization": f"Bearer {key}"})
            failures += check_with_key(browser, key)
    print("\n".join(failures) or "the console and Swagger UI work as expected")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
