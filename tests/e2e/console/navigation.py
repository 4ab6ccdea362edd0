"""Addresses, the way back, and controls that stay in place while the list changes."""

from harness import until

from .craft import PHONE, DESKTOP
from .orders import place

# Enough for a list that is higher than the window.
LONG_LIST = 30


def addresses(browser):
    """An address that was edited by hand is explained, and never leaves the former view in place."""
    order = place(browser.node, "for a wrong address")
    browser.open("/dashboard")
    for address, text in [
        ("#/constructor", "There is no such view"), ("#/__proto__", "There is no such view"), ("#/orders?from=yesterday", "From must be a date"),
        ("#/orders?day=tomorrow", "Day must be one of today, week, month"), ("#/orders?status=Lost", "Status must be one of"),
        ("#/orders?currency=euro", "Currency must be three capital letters"), ("#/orders?page=x", "This list cannot be shown"),
        ("#/orders/x", "There is no such order"), (f"#/orders/{order}?revision=9", "There is no state of the order"),
        (f"#/orders/{order}?events=constructor", "for a wrong address"),
    ]:
        browser.navigate(address)
        if not browser.wait_for_text(text, "main"):
            yield f"{address} does not say {text}"


def way_back(browser):
    """Back from an order the list is where it was left, with its filters and the focus on the row."""
    for number in range(LONG_LIST):
        place(browser.node, f"way-back-{number}")
    browser.open("/dashboard#/orders?status=Pending")
    browser.wait_for_text(f"way-back-{LONG_LIST - 1}", "#orders")
    browser.run("document.querySelectorAll('#orders .id')[20].focus()")
    scrolled, row = browser.run("return [scrollY, document.activeElement.closest('[data-row]').dataset.row]")
    # A click beside the link opens the order too.
    browser.run("document.activeElement.closest('[data-row]').querySelector('[data-column=Items]').click()")
    if not browser.wait_for_text(row, "h1"):
        yield "a click on a row does not open it"
    if not browser.becomes("return scrollY === 0 && document.activeElement.id === 'main'"):
        yield "a new view does not begin at its top"
    browser.call("POST", "/back", {})
    if not browser.becomes("return document.activeElement.closest('[data-row]')?.dataset.row === arguments[0]", row):
        yield "the way back does not lead to the row"
    if not browser.becomes("return Math.abs(scrollY - arguments[0]) <= 5", scrolled):
        yield f"the list was left at {scrolled} and is shown at {browser.run('return scrollY')}"
    browser.call("POST", "/forward", {})
    browser.wait_for_text(row, "h1")
    browser.click(".crumbs a")
    if not browser.wait_for_text("of", ".pager") or not browser.becomes("return location.hash.includes('status=Pending')"):
        yield "the link to the list has lost its filters"


def filters(browser):
    """Filters stay in place while orders arrive, and totals are shown only where they are those of the list."""
    node = browser.node
    place(node)
    place(node, "one of several currencies", currency="EUR")
    browser.open("/dashboard#/orders")
    total = f"{node.call('GET', '/stats')['totalOrders']:,}"
    if not browser.wait_for_text(total, ".statuses") or not browser.wait_for_text(f"of {total} orders", ".pager"):
        yield "the list does not say how many orders there are"
    browser.run("document.querySelector('.date input').focus(); window.marked = document.activeElement")
    place(node, "while a date is typed in")
    browser.wait_for_text("while a date is typed in", "#orders")
    if browser.run("return document.activeElement !== marked"):
        yield "a new order takes the focus from a filter"
    browser.navigate("#/orders?customer=one of several currencies")
    browser.wait_for_text("one of several currencies", "#orders")
    if not browser.becomes("return !/[0-9]/.test(document.querySelector('.statuses').innerText)"):
        yield f"the totals of all orders are shown beside the orders of one customer: {browser.text('.statuses')}"
    browser.resize(*PHONE)
    is_shown = "document.getElementById('more-filters').getClientRects().length > 0"
    if not browser.becomes(f"return !({is_shown})"):
        yield "a phone shows every filter at first"
    browser.click(".more-toggle")
    if not browser.becomes(f"return {is_shown} && document.querySelector('.more-toggle').getAttribute('aria-expanded') === 'true'"):
        yield "a phone does not show more filters on request"
    yield from (f"filters on a phone: {violation}" for violation in browser.violations())
    browser.click(".more-filters [href*='currency=EUR']")
    until("the filter is counted", lambda: "1 set" in browser.text(".more-toggle"))
    browser.click(".more-toggle")
    browser.resize(*DESKTOP)
