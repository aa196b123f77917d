"""A seeded event loop with virtual time, and the processes that live on it.

Time stands still while anything can run, and then jumps to the next timer. What is ready runs in an order that the seed
chooses. Every callback knows by its context which process it belongs to: a process that was killed runs nothing more,
one that is stopped runs what has come due when it goes on.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, ContextVar
from random import Random
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_process: ContextVar["Process | None"] = ContextVar("process", default=None)


class Died(BaseException):
    """Unwinds the code that ended its own process."""


class StandstillError(Exception):
    """Nothing is ready and no timer is set: the history would never end."""


class Process:
    """What a kill ends at once: no `finally` of it runs, and nothing that it holds is told to anybody."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.skew_ms = 0
        """How far its wall clock is ahead of the cluster's."""
        self.exit_code: int | None = None
        self.is_stopped = False
        self.steps_left: int | None = None
        """How many more steps (from one await to the next) it lives; None: for ever."""
        self.context = Context()
        self.context.run(_process.set, self)
        self._late: list[asyncio.Handle] = []

    @classmethod
    def current(cls) -> "Process":
        """Give the process whose code is running."""
        process = _process.get()
        assert process is not None, "called from outside of all processes"
        return process

    @property
    def is_alive(self) -> bool:
        """Whether it may still run, now or when it goes on."""
        return self.exit_code is None

    def end(self, exit_code: int) -> None:
        """Let it run nothing more."""
        if self.is_alive:
            self.exit_code = exit_code

    def go_on(self, loop: "SimulatedLoop") -> None:
        """Let a stopped process run, first what has come due meanwhile."""
        self.is_stopped = False
        loop.ready_again(self._late)
        self._late = []

    def takes(self, handle: asyncio.Handle) -> bool:
        """Whether a callback of its own may run now."""
        if self.is_alive and self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.end(-9)
        if self.is_alive and self.is_stopped:
            self._late.append(handle)
        return self.is_alive and not self.is_stopped


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop without a clock and without the world outside."""

    _ready: "deque[asyncio.Handle]"

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._now_s = 0.0
        self._selector = self
        self._ready = _Ready(self, chance)
        self._tasks: list[asyncio.Task[Any]] = []
        self.accidents: list[str] = []
        """What went wrong in callbacks."""
        self.steps = 0
        self.set_task_factory(self._kept_task)
        self.set_exception_handler(self._note)

    def time(self) -> float:
        """Give the virtual time, seconds since the beginning."""
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """Stand in for the selector: nothing comes from outside, so waiting is a jump."""
        if timeout is None:
            raise StandstillError
        self._now_s += timeout
        return []

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Do what is for a thread at once: when a real thread is done, the machine decides and no seed."""
        future: asyncio.Future[T] = self.create_future()
        future.set_result(func(*args))
        return future

    def ready_again(self, handles: list[asyncio.Handle]) -> None:
        """Let callbacks run that were held."""
        self._ready.extend(handles)

    def bury(self) -> None:
        """Unwind what was left hanging. Its `finally` blocks run here, when all is judged and nothing counts."""
        for task in self._tasks:
            coroutine: Any = task.get_coro()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            for _ in range(8):  # a `finally` that awaits has to be told again
                try:
                    coroutine.close()
                    break
                except BaseException:  # noqa: BLE001 (whatever a `finally` raises is of no use any more)
                    continue
        self._ready.clear()
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()

    def _kept_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        # a dead process's task that the collector found would run its `finally` blocks in the middle of the history
        task = asyncio.Task(coroutine, loop=loop, **options)
        self._tasks.append(task)
        return task

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Died) and context["message"].startswith("Exception in callback"):
            self.accidents.append(f"{context['message']}: {context.get('exception')!r}")

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        return

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        return


class _Ready(deque[asyncio.Handle]):
    """The ready queue, from which any callback may be the next."""

    def __init__(self, loop: SimulatedLoop, chance: Random) -> None:
        super().__init__()
        self._loop, self._random = loop, chance.random
        self._nothing = asyncio.Handle(print, (), loop)
        self._nothing.cancel()

    def popleft(self) -> asyncio.Handle:
        if (waiting := len(self)) > 1:
            self.rotate(int(self._random() * waiting))
        handle = super().popleft()
        self._loop.steps += 1
        process = handle._context.get(_process)  # type: ignore[attr-defined]
        return handle if process is None or process.takes(handle) else self._nothing
