"""What follows from a value is made once for as long as the value is the same object."""

from speaker.planner.derived import Derived


def test_made_anew_for_another_object_only() -> None:
    made: list[list[int]] = []

    def double(source: list[int]) -> list[int]:
        made.append(source)
        return [2 * one for one in source]

    derived = Derived(double)
    source, equal = [1, 2], [1, 2]
    first = derived.of(source)
    assert first == [2, 4]
    assert derived.of(source) is first
    assert derived.of(equal) is not first
    assert derived.of(source) is not first, "of one value, not of all there were"
    assert made == [source, equal, source]
