"""The connection state of the console: a server that becomes unreachable and returns, and ten tabs at once."""

import re

from .orders import place

TABS = 10


def server_unreachable_and_back(browser):
    node = browser.node
    place(node, "before the end")
    browser.open("/dashboard")
    browser.wait_for_text("before the end", "#orders")
    icon = "document.getElementById('favicon').href"
    healthy_icon = browser.run(f"return {icon}")
    node.kill()
    if not browser.wait_for_text("The server does not answer", "#unreachable", timeout_s=20):
        yield "the console does not say that the server is unreachable"
        return
    if not re.search(r"last answer, (just now|\d+ seconds ago)", browser.text("#unreachable")):
        yield f"the console does not say when the last answer was: {browser.text('#unreachable')}"
    if "before the end" not in browser.text("#orders"):
        yield "the last known values have disappeared"
    if not browser.becomes("return getComputedStyle(document.getElementById('main')).filter !== 'none'"):
        yield "the values of an unreachable server are not greyed"
    if not browser.becomes(f"return document.title.includes('no answer') && {icon} !== arguments[0]", healthy_icon):
        yield "the title and the icon of the tab do not say that the server is unreachable"
    if not browser.becomes("return !document.getElementById('connection').innerText.includes('live')"):
        yield "a dead server is shown as live"
    browser.navigate("#/server")
    if not browser.wait_for_text("There is nothing to show yet", "main"):
        yield "a view that is opened while the server is unreachable is empty without an explanation"
    browser.navigate("#/orders")
    node.start()
    node.until_ready()
    if not browser.wait_for_text("live", "#connection"):
        yield "the console does not recover by itself"
    # The store was in memory: an empty list, with advice.
    if not browser.wait_for_text("There are no orders yet", "main"):
        yield "the console does not show the values of the new process"
    place(node, "after the start")
    if not browser.wait_for_text("after the start", "#orders") or not browser.becomes("return !document.title.includes('no answer')"):
        yield "the console does not follow the new process"


def ten_tabs(browser):
    node = browser.node
    first = browser.call("GET", "/window")
    tabs = [first] + [browser.new_tab() for _ in range(TABS - 1)]
    for tab in tabs:
        browser.switch(tab)
        browser.open("/dashboard")
    for number, tab in enumerate(tabs, 1):
        browser.switch(tab)
        if not browser.wait_for_text("live", "#connection"):
            yield f"tab {number} of {TABS} is not live"
    order = place(node, "for all tabs")
    for number, tab in enumerate(tabs, 1):
        browser.switch(tab)
        if not browser.wait_for_text("for all tabs", "#orders", timeout_s=15):
            yield f"tab {number} of {TABS} does not show the order of another client"
    for tab in tabs[1:]:
        browser.switch(tab)
        browser.call("DELETE", "/window")
    browser.switch(first)
    node.call("POST", f"/orders/{order}/pay", {"paymentMethod": "card"})
    if not browser.wait_for_text("Paid", f"[data-row='{order}']"):
        yield "the first tab does not follow any more when the others are closed"
