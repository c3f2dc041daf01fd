"""Requests of a page that wait until a test lets them go on, in any order: a slow server whose delays are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import APIResponse, Page, Request, Route


class HeldRequests:
    """Holds the requests of `page` whose address fits `pattern`, from now on.

    The server gets a request when it goes on; with `is_read` at once, and what it answered then is held.
    """

    def __init__(self, page: Page, pattern: str, *, is_read: bool = False) -> None:
        self._page = page
        self._ended: list[Request] = []
        self._is_read = is_read
        self._answers: dict[Route, APIResponse] = {}
        self.routes: list[Route] = []
        page.on("requestfinished", lambda request: self._ended.append(request))
        page.on("requestfailed", lambda request: self._ended.append(request))
        self._pattern = pattern
        page.route(pattern, self._hold)

    def _hold(self, route: Route) -> None:
        if self._is_read:
            self._answers[route] = route.fetch()
        self.routes.append(route)

    def wait_for(self, count: int) -> None:
        """Wait until so many requests were made."""
        while len(self.routes) < count:
            self._page.wait_for_timeout(20)

    def answer(self, number: int) -> None:
        """Let a request go on, and wait until the page has its answer."""
        self.wait_for(number + 1)
        route = self.routes[number]
        if self._is_read:
            route.fulfill(response=self._answers[route])
        else:
            route.continue_()
        while route.request not in self._ended:
            self._page.wait_for_timeout(20)

    def let_go(self) -> None:
        """Hold no further request. Those that are held stay so."""
        self._page.unroute(self._pattern, self._hold)
