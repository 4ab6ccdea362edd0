"""The work of an operator: monitoring the node, replaying dead letters, rebuilding the read model."""

import re

from harness import until

from .orders import place

HANDLER = "order-event-logger"
REASON = "the warehouse is closed <b>today</b>"


def dead_letter(node, redis, customer):
    """Makes an event a dead letter, as the message bus does after the last attempt; returns its id."""
    order = place(node, customer)
    node.call("POST", f"/orders/{order}/pay", {"paymentMethod": "card"})
    [stream] = [key for key in redis.cli("--scan").split() if key.endswith(":events")]
    prefix = stream.removesuffix(":events")
    move = """
        local entry = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][2]
        local event
        for index = 1, #entry, 2 do if entry[index] == 'id' then event = entry[index + 1] end end
        for _, value in ipairs({'reason', ARGV[1], 'attempts', '10'}) do entry[#entry + 1] = value end
        redis.call('HSET', KEYS[3], event, redis.call('XADD', KEYS[2], '*', unpack(entry)))
        return event"""
    keys = [stream, f"{prefix}:dead:{HANDLER}", f"{prefix}:dead-index:{HANDLER}"]
    return redis.cli("EVAL", move, "3", *keys, REASON)


def dead_letters(browser, redis):
    node = browser.node
    first, second = dead_letter(node, redis, "first"), dead_letter(node, redis, "second")
    browser.open("/dashboard#/dead-letters")
    for text in (first, second, REASON, HANDLER):
        if not browser.wait_for_text(text, "main"):
            yield f"the dead letters do not say {text}"
            return
    browser.click("#select-all")
    if not browser.wait_for_text("Replay 2 selected", "main"):
        yield "not every dead letter is selected"
    browser.click("#select-all")
    browser.run("document.querySelector(`[data-row='${arguments[0]}'] input`).click()", first)
    browser.run("[...document.querySelectorAll('main button')].find(it => it.textContent === 'Replay 1 selected').click()")
    browser.click("dialog button[type=submit]")
    if not browser.wait_for_text("1 event sent to the handler again", ".toast"):
        yield "the replay of a dead letter is not confirmed"
    browser.wait_for("it is gone", "return document.querySelector(`[data-row='${arguments[0]}']`) === null", first)
    browser.run("[...document.querySelectorAll('main button')].find(it => it.textContent === 'Discard all').click()")
    if not browser.wait_for_text("The handler will never see them", "dialog"):
        yield "the console does not say what discarding means"
    browser.click("dialog button[type=submit]")
    if not browser.wait_for_text("There are no dead letters", "main"):
        yield "the discarded dead letter is still there"


def check_operations(browser):
    node = browser.node
    browser.open("/dashboard#/operations")
    for text in ("All components are healthy", "Orders placed per second", "Read model", "this node", "opens after 5 failures in a row"):
        if not browser.wait_for_text(text, "main"):
            yield f"the operations do not say {text}"
    for number in range(20):
        place(node, f"watched-{number}")
    if not wait_for_chart(browser):
        yield "the charts do not show the orders that were placed"
    browser.navigate("#/server")
    for text in ("An acknowledged command survives", "Items of an order", node.call("GET", "/")["node"]):
        if not browser.wait_for_text(text, "main"):
            yield f"the server view does not show {text}"
    if not browser.wait_for_text("--port", ".settings") or not browser.wait_for_text(str(node.port), ".settings"):
        yield "the server view does not show the port and its source"
    if "breaker-failures" in browser.text(".settings"):
        yield "default settings are shown at first"
    browser.click("#defaults")
    if not browser.wait_for_text("breaker-failures", ".settings"):
        yield "default settings are not shown on request"
    browser.click("#rebuild")
    browser.click("dialog button[type=submit]")
    if not browser.wait_for_text("Done", "main"):
        yield "the page does not show the end of the rebuild"
    browser.click("#rebuild")
    browser.click("dialog button[type=submit]")
    if not browser.wait_for_text("Refused", "main"):
        yield "a rebuild that is refused is not explained"


def wait_for_chart(browser):
    script = "return parseFloat(document.querySelector('.tile .value')?.innerText) > 0 || document.querySelector('.tile .highest')?.innerText.match(/[1-9]/) !== null"
    try:
        return browser.wait_for("the orders are charted", script)
    except AssertionError:
        return False


def root_cause(browser):
    """Only the root cause is reported as a cause, not the components that it affects."""
    checks = {name: {"status": status} for name, status in [
        ("store", "Unhealthy"), ("projections", "Degraded"), ("ids", "Unhealthy"), ("transport", "Healthy"), ("subscriptions", "Degraded")]}
    browser.open("/dashboard")
    found = browser.call("POST", "/execute/async", {"args": [checks], "script": """
        const [checks, done] = arguments;
        import('/dashboard/operations.js').then(({causes}) => done(causes(checks)), error => done(String(error)));"""})
    if found != ["store"]:
        yield f"the causes of an unreachable store are {found}"


def dead_letter_counts(browser):
    """The number of dead letters is not stated where the node does not know it, and not rounded down."""
    details = ["a handled: 7, dead letters: 2; b handled: 1, dead letters: 1", "a handled: 7, dead letters: more than 1000", "a standing by: node-1 handles"]
    browser.open("/dashboard")
    found = browser.call("POST", "/execute/async", {"args": [details], "script": """
        const [details, done] = arguments;
        import('/dashboard/operations.js').then(({deadLetterCount}) => done(details.map(detail => deadLetterCount({detail}) ?? null)), error => done(String(error)));"""})
    if found != ["3", "more than 1,000", None]:
        yield f"the numbers of dead letters are {found}"


def durations(browser):
    """Durations are short and never in scientific notation."""
    values = {0.0000123: "12 µs", 0.00456: "4.6 ms", 0.0123: "12 ms", 0.38: "380 ms", 1.44: "1.4 s", 75: "75 s", 600: "10 min", 7300: "2 h"}
    browser.open("/dashboard")
    found = browser.call("POST", "/execute/async", {"args": [list(values)], "script": """
        const [values, done] = arguments;
        import('/dashboard/text.js').then(({duration}) => done(values.map(duration)), error => done(String(error)));"""})
    if found != list(values.values()):
        yield f"durations are shown as {found}"


def breaker_is_open(browser):
    browser.node.status_of("POST", "/orders", {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": "1"}]})
    return re.search(r"tries again in \d+ s", browser.text("main"))


def store_unreachable(browser, redis):
    redis.kill()
    browser.open("/dashboard#/operations")
    if not browser.wait_for_text("Cause: ", "main .banner"):
        yield "the operations do not name the cause when the store is unreachable"
    # Refused commands open the circuit breaker, which says when it tries again.
    until("the circuit breaker counts down", lambda: breaker_is_open(browser))
    banner = browser.text("main .banner")
    if not banner.split("Cause: ")[-1].startswith(("Event store", "Message bus")):
        yield f"the cause is not the store: {banner}"
    redis.start()
    if not browser.wait_for_text("All components are healthy", "main .banner"):
        yield "the operations do not recover with the store"
