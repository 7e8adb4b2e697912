"""Times measured in turns."""

from __future__ import annotations

from hexavit.profiling.measure import interleaved


def test_each_run_is_timed_in_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    seconds = interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert "".join(calls) == "ab" + "abab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_a_run_settles_before_it_is_timed() -> None:
    calls: list[str] = []
    seconds = interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, 2, settle=True)
    assert "".join(calls) == "ab" + "aabbaabb"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}
