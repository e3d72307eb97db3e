"""A test that fails beside a gateway of its own process tells what that one waits for: a hang is seldom seen twice."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.support.inproc import tasks_of_all


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and report.failed and (tasks := tasks_of_all()):
        report.sections.append(("tasks of the gateway", tasks))
    return report
