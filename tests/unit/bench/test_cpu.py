"""Processor time is that of whole process trees."""

from bench.performance.cpu import ProcessTimes, trees

STAT = "42 (post (gres) x) S 7 42 42 0 -1 4194304 100 200 0 0 150 50 20 30 20 0 1 0 12345 1000 200 18446744073709551615"


def test_ended_children_count_with_the_process_that_waited_for_them() -> None:
    """150 + 50 ticks of its own, 20 + 30 of children; the program's name may look like anything."""
    assert ProcessTimes.parse(STAT, 100) == ProcessTimes(pid=42, parent=7, cpu_seconds=2.5)


def test_a_tree_is_a_root_and_all_that_descends_from_it() -> None:
    """However deep; strangers are left out, and so is the parent."""
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
    processes = [ProcessTimes(pid, parent, 1.0) for pid, parent in parents.items()]
    assert [process.pid for process in trees(processes, [10])] == [10, 11, 12]
    assert [process.pid for process in trees(processes, [11, 20])] == [11, 12, 20, 21]


def test_a_root_within_another_tree_counts_once() -> None:
    """The worker of a gateway that is named, too."""
    processes = [ProcessTimes(10, 1, 1.0), ProcessTimes(11, 10, 1.0)]
    assert len(trees(processes, [10, 11])) == len(processes)
