"""The addons of a gateway: their life as mitmproxy's master has it, and how their hooks are called.

mitmproxy logs the exception of a hook and lets the request go on. Here it refuses the call. So the
hooks of a call are called by `Addons.ask`, and not by mitmproxy's addon manager.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import mitmproxy.log
from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import traverse
from mitmproxy.flow import Error
from mitmproxy.hooks import ConfigureHook

from tollhouse.denial import Refused
from tollhouse.operators.loading import CALL_HOOKS, MESSAGE_HOOK, AddonError

log = logging.getLogger(__name__)

SLOW_S: Final = 0.05
"""A hook that computes longer than this holds up all other calls."""


class _Hook(NamedTuple):
    label: str
    """The addon as the configuration names it."""
    call: Callable[..., object]


class HookFailed(Exception):
    """A hook raised, or did not return in time. It is in the log."""

    def __init__(self, label: str, name: str, why: str) -> None:
        super().__init__(f"{label} {name} {why}")
        self.label = label
        self.name = name
        self.why = why

    @property
    def refusal(self) -> Refused:
        """What is said of it to a workload: not the exception's own text, which may hold anything."""
        return Refused(
            "addon_failed", f"{self.label} {self.why} in its hook {self.name}.", gate="addons"
        )


class Addons:
    """Those of one gateway, in the configuration's order. For one event loop. ``clock`` gives seconds
    that never go back."""

    def __init__(
        self,
        loaded: Sequence[tuple[str, object]],
        *,
        options: Mapping[str, Any] | None = None,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``loaded`` are the addons and their names in the configuration."""
        self._loaded = tuple(loaded)
        self._options = dict(options or {})
        self._timeout_s = timeout_s
        self._clock = clock
        self._hooks: dict[str, tuple[_Hook, ...]] = {}
        self._given_up: set[asyncio.Task[Any]] = set()
        self.labels: Final = tuple(label for label, _ in self._loaded)
        self.failed: Counter[str] = Counter()
        """Hooks that raised or did not return in time, by addon: since the start."""
        self.slow: Counter[str] = Counter()
        """Hooks that held up the event loop for more than `SLOW_S`, by addon: since the start."""

    def begin(self, master: Any) -> None:
        """Registers them with ``master``'s addon manager (``load``), sets their options and has them
        configured. Raises `AddonError`."""
        options = master.options
        # Where addons look for their options, and old ones for a log.
        ctx.master, ctx.options = master, options
        ctx.log = mitmproxy.log.Log(master)
        for name in self._options:
            if name in options:
                raise AddonError(
                    f"addons.options.{name} cannot be set.",
                    "It is an option of mitmproxy itself, and the gateway does not go by it.",
                    "Remove it.",
                )
        options.update_defer(**self._options)
        for label, addon in self._loaded:
            self._at_start(label, "load", partial(master.addons.add, addon))
        if options.deferred:
            unknown = ", ".join(sorted(options.deferred))
            raise AddonError(
                f"addons.options has {unknown}.",
                "No addon has added such an option in its hook load.",
                "Correct the name, or remove it.",
            )
        names = set(options.keys())
        for label, addon in self._loaded:
            self._at_start(
                label,
                "configure",
                partial(master.addons.invoke_addon_sync, addon, ConfigureHook(names)),
            )
        for name in (*CALL_HOOKS, MESSAGE_HOOK, "running", "done"):
            self._hooks[name] = tuple(
                _Hook(label, call)
                for label, addon in self._loaded
                for part in traverse([addon])
                if callable(call := getattr(part, name, None))
            )

    @staticmethod
    def _at_start(label: str, name: str, call: Callable[[], object]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:
            raise AddonError(
                f"{label} cannot be used.",
                f"Its hook {name} raised {type(error).__name__}: {' '.join(str(error).split())[:200]}.",
                "Correct it, or the values in [addons.options].",
            ) from error

    async def running(self) -> None:
        """Everything is made, and the listeners are opened next. Raises `AddonError`."""
        for hook in self._hooks["running"]:
            try:
                await self._call(hook, "running")
            except exceptions.AddonHalt:
                return
            except HookFailed as failed:
                todo = "Correct it; the log has the fault."
                raise AddonError(
                    f"{hook.label} cannot be used.", f"It {failed.why} in its hook running.", todo
                ) from None

    async def done(self) -> None:
        """No call is under way any more. What a hook raises is in the log."""
        for hook in self._hooks.get("done", ()):
            try:
                await self._call(hook, "done")
            except (HookFailed, exceptions.AddonHalt):
                pass

    def have(self, name: str) -> bool:
        """Whether one of them has this hook."""
        return bool(self._hooks.get(name))

    @property
    def want_calls(self) -> bool:
        """Whether one of them has a hook of calls over HTTP."""
        return any(map(self.have, CALL_HOOKS))

    @property
    def want_flows(self) -> bool:
        return self.want_calls or self.have(MESSAGE_HOOK)

    @property
    def take_messages(self) -> bool:
        """Whether each addon that has to do with calls takes the messages of sessions, too. One that masks requests and does
        not would let them leave unmasked."""
        with_calls = {hook.label for name in CALL_HOOKS for hook in self._hooks.get(name, ())}
        return with_calls <= {hook.label for hook in self._hooks.get(MESSAGE_HOOK, ())}

    async def ask(self, name: str, flow: http.HTTPFlow) -> None:
        """Calls one hook of all addons. Raises `Refused`: 503 if one failed, 403 if one killed the flow."""
        try:
            for hook in self._hooks[name]:
                try:
                    await self._call(hook, name, flow)
                except exceptions.AddonHalt:
                    break
            if flow.intercepted:
                await self._resumed(name, flow)
        except HookFailed as failed:
            raise failed.refusal from None
        refuse_killed(flow)

    async def _resumed(self, name: str, flow: http.HTTPFlow) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await flow.wait_for_resume()
        except TimeoutError:
            why = f"An addon intercepted the flow in its hook {name}, and did not resume it within {self._timeout_s:g} s."
            raise Refused("addon_failed", why, gate="addons") from None

    async def _call(self, hook: _Hook, name: str, *arguments: object) -> None:
        """Raises `HookFailed`, and `AddonHalt` of mitmproxy."""
        try:
            result = self.measured(hook.label, name, hook.call, *arguments)
        except exceptions.AddonHalt:
            raise
        except BaseException as error:
            # Nothing was awaited, so this is no cancellation from outside.
            raise self.fault(hook.label, name, error) from None
        if result is None or not inspect.isawaitable(result):
            return
        began = self._clock()
        # With the gateway's task factory it runs up to its first wait at once.
        task = asyncio.get_running_loop().create_task(_outcome(result))
        self._tell_slow(hook.label, name, self._clock() - began)
        late = True
        try:
            if not task.done():
                await asyncio.wait((task,), timeout=self._timeout_s)
            late = not task.done()
        finally:
            if late:
                # It is not waited for: it may not heed the cancellation. One that does ends in the next turn.
                self._given_up.add(task)
                task.add_done_callback(self._given_up.discard)
                task.cancel()
                await asyncio.sleep(0)
        if late:
            raise self.fault(hook.label, name, None)
        raised = asyncio.CancelledError() if task.cancelled() else task.result()
        if isinstance(raised, exceptions.AddonHalt):
            raise raised
        if raised is not None:
            raise self.fault(hook.label, name, raised) from None

    def measured(
        self, label: str, name: str, call: Callable[..., object], *arguments: object
    ) -> object:
        """What ``call`` gives or raises; it is said if it took long."""
        began = self._clock()
        try:
            return call(*arguments)
        finally:
            self._tell_slow(label, name, self._clock() - began)

    def _tell_slow(self, label: str, name: str, seconds: float) -> None:
        if seconds <= SLOW_S:
            return
        self.slow[label] += 1
        if self.slow[label] == 1:
            log.warning(
                "the addon %s held up all calls for %.0f ms in its hook %s; make the hook async and let "
                "it wait, or decorate it with mitmproxy.script.concurrent. It is said once",
                label,
                seconds * 1000,
                name,
            )

    def fault(self, label: str, name: str, error: BaseException | None) -> HookFailed:
        """``error`` in the log and counted; None is a hook that did not return in time."""
        self.failed[label] += 1
        if error is None:
            why = f"did not return within {self._timeout_s:g} s"
            log.error("the addon %s %s in its hook %s", label, why, name)
            return HookFailed(label, name, why)
        log.error("the addon %s failed in its hook %s", label, name, exc_info=error)
        return HookFailed(label, name, f"raised {type(error).__name__}")


async def _outcome(result: Awaitable[Any]) -> BaseException | None:
    """What it raises. In a task some exceptions would end the whole loop."""
    try:
        await result
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return error
    return None


def killed(flow: http.HTTPFlow) -> bool:
    return flow.error is not None and flow.error.msg == Error.KILLED_MESSAGE


def refuse_killed(flow: http.HTTPFlow) -> None:
    if killed(flow):
        raise Refused("addon_refused", "It killed the flow (flow.kill()).", gate="addons")
