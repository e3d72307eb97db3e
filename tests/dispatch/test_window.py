from tests.support.clock import Clock

from tollhouse.dispatch.window import Window


def test_counts_are_forgotten_after_the_window() -> None:
    """What is older than the window no longer counts; what is within it does."""
    clock = Clock()
    window = Window(10.0, clock)
    window.add(first=3, second=1)
    clock.now += 5
    window.add(first=2)
    window.forget()
    assert (window.first, window.second) == (5, 1)
    clock.now += 5.5
    window.forget()
    assert (window.first, window.second) == (2, 0)
    clock.now += 100
    window.forget()
    assert (window.first, window.second) == (0, 0)


def test_clear() -> None:
    """Nothing is left after clear."""
    window = Window(10.0, Clock())
    window.add(first=3, second=3)
    window.clear()
    assert (window.first, window.second) == (0, 0)
