"""The blocking twin: runs the same code on an event loop of its own, in a thread, so that it works in notebooks too."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from vantage6.client import _access, _parties, _people, _tasks
from vantage6.client._shown import Rows
from vantage6.client.client import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path
    from types import TracebackType

    from vantage6.client._models import WhoAmI

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


class Loop:
    """An event loop in a thread. It ends when it is closed or nobody holds it any more."""

    def __init__(self) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="vantage6-client", daemon=True)
        thread.start()
        self._loop = loop
        self.close = weakref.finalize(self, _end, loop, thread)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for the outcome; an interrupt (Ctrl-C) cancels the work before it goes on its way."""
        if not self.close.alive:
            work.close()
            raise RuntimeError("this client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, stream: AsyncIterator[T]) -> Iterator[T]:
        try:
            while True:
                found = self.run(_next(stream))
                if found is None:
                    return
                yield found[0]
        finally:
            if self.close.alive:
                self.run(cast("AsyncGenerator[T, None]", stream).aclose())


async def _next(stream: AsyncIterator[T]) -> tuple[T] | None:
    async for item in stream:
        return (item,)
    return None


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    if thread is not threading.current_thread():
        thread.join(timeout=5)
    if not loop.is_running():
        loop.close()


class Blocking(Generic[A]):
    """The blocking face of an asynchronous object."""

    def __init__(self, inner: A, loop: Loop) -> None:
        self._inner = inner
        self._loop = loop


def call(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[Any], P], T]:
    """The same method, waited for."""

    @functools.wraps(method)
    def blocking(self: Blocking[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._inner, *args, **kwargs))

    return blocking


def iterate(
    method: Callable[Concatenate[A, P], AsyncIterator[T]],
) -> Callable[Concatenate[Blocking[Any], P], Rows[T]]:
    """The same method, as an ordinary iterator."""

    @functools.wraps(method)
    def blocking(self: Blocking[Any], /, *args: P.args, **kwargs: P.kwargs) -> Rows[T]:
        return Rows(self._loop.iterate(method(self._inner, *args, **kwargs)))

    return blocking


class Organizations(Blocking[_parties.Organizations]):
    get = call(_parties.Organizations.get)
    list = iterate(_parties.Organizations.list)
    create = call(_parties.Organizations.create)
    update = call(_parties.Organizations.update)
    delete = call(_parties.Organizations.delete)


class Collaborations(Blocking[_parties.Collaborations]):
    get = call(_parties.Collaborations.get)
    list = iterate(_parties.Collaborations.list)
    create = call(_parties.Collaborations.create)
    update = call(_parties.Collaborations.update)
    delete = call(_parties.Collaborations.delete)
    add_organization = call(_parties.Collaborations.add_organization)
    remove_organization = call(_parties.Collaborations.remove_organization)


class Nodes(Blocking[_parties.Nodes]):
    get = call(_parties.Nodes.get)
    list = iterate(_parties.Nodes.list)
    create = call(_parties.Nodes.create)
    update = call(_parties.Nodes.update)
    delete = call(_parties.Nodes.delete)
    reset_api_key = call(_parties.Nodes.reset_api_key)


class Users(Blocking[_people.Users]):
    get = call(_people.Users.get)
    list = iterate(_people.Users.list)
    create = call(_people.Users.create)
    update = call(_people.Users.update)
    delete = call(_people.Users.delete)


class Roles(Blocking[_people.Roles]):
    get = call(_people.Roles.get)
    list = iterate(_people.Roles.list)
    create = call(_people.Roles.create)
    update = call(_people.Roles.update)
    delete = call(_people.Roles.delete)
    rules = iterate(_people.Roles.rules)


class Sessions(Blocking[_access.Sessions]):
    list = iterate(_access.Sessions.list)
    delete = call(_access.Sessions.delete)


class SecondFactors(Blocking[_access.SecondFactors]):
    create = call(_access.SecondFactors.create)
    confirm = call(_access.SecondFactors.confirm)
    delete = call(_access.SecondFactors.delete)


class Tasks(Blocking[_tasks.Tasks]):
    get = call(_tasks.Tasks.get)
    list = iterate(_tasks.Tasks.list)
    create = call(_tasks.Tasks.create)
    missing = iterate(_tasks.Tasks.missing)
    cancel = call(_tasks.Tasks.cancel)
    delete = call(_tasks.Tasks.delete)


class Results(Blocking[_tasks.Results]):
    get = call(_tasks.Results.get)
    logs = iterate(_tasks.Results.logs)
    list = iterate(_tasks.Results.list)


async def _connect(*args: Any, **kwargs: Any) -> AsyncClient:
    return AsyncClient(*args, **kwargs)


class Client(Blocking[AsyncClient]):
    """A researcher's connection to a server.

    `url` is `https://host:port`, or without the port, which then comes second, as in 1.x; `path` is where the REST API
    is below it. `ca_file` is a PEM bundle to trust instead of the system's. `known_organizations` is the file in which
    the organizations' keys are pinned; unless given, one for each server in the user's configuration. With
    `login_file`, a log-in outlives the program: `resume` goes on with it.
    """

    def __init__(
        self,
        url: str,
        port: int | None = None,
        path: str = "/api",
        *,
        ca_file: str | Path | None = None,
        known_organizations: str | Path | None = None,
        login_file: str | Path | None = None,
    ) -> None:
        loop = Loop()
        try:
            # gRPC ties a channel to the loop that it is made on.
            inner = loop.run(
                _connect(
                    url, port, path, ca_file=ca_file, known_organizations=known_organizations, login_file=login_file
                )
            )
        except BaseException:
            loop.close()
            raise
        super().__init__(inner, loop)
        self.organization = Organizations(inner.organization, loop)
        self.collaboration = Collaborations(inner.collaboration, loop)
        self.node = Nodes(inner.node, loop)
        self.user = Users(inner.user, loop)
        self.role = Roles(inner.role, loop)
        self.session = Sessions(inner.session, loop)
        self.second_factor = SecondFactors(inner.second_factor, loop)
        self.task = Tasks(inner.task, loop)
        self.result = Results(inner.result, loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the log-in stays good on the server until it expires or `log_out` ends it."""
        if self._loop.close.alive:
            self._loop.run(self._inner.close())
            self._loop.close()

    @property
    def whoami(self) -> WhoAmI:
        return self._inner.whoami

    version = call(AsyncClient.version)
    authenticate = call(AsyncClient.authenticate)
    resume = call(AsyncClient.resume)
    log_out = call(AsyncClient.log_out)
    setup_encryption = call(AsyncClient.setup_encryption)
    create_private_key = call(AsyncClient.create_private_key)
    rotate_private_key = call(AsyncClient.rotate_private_key)
    trust = call(AsyncClient.trust)
    trusted = call(AsyncClient.trusted)
    wait = call(AsyncClient.wait)
    results = iterate(AsyncClient.results)
    logs = iterate(AsyncClient.logs)
    post_task = call(AsyncClient.post_task)
    get_results = call(AsyncClient.get_results)
    request = call(AsyncClient.request)
