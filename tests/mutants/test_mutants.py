"""Our own code with one guard taken out at a time: each time the test that the table names must fail.

Those whose test needs a broker, or thousands of stories, take minutes: they bear the mark `long`.
"""

from collections.abc import Iterator

import pytest

from tests.mutants.crashes import crash_in
from tests.mutants.table import MUTANTS, SIMULATION, Mutant
from tests.mutants.workshop import Workshop

pytestmark = [pytest.mark.mutants, pytest.mark.timeout(0)]

FAILED = int(pytest.ExitCode.TESTS_FAILED)
PASSED = int(pytest.ExitCode.OK)
FEW = {"HISTORIES": "20", "SEED": "1"}

quick = [mutant for mutant in MUTANTS if not mutant.takes_long]
slow = [mutant for mutant in MUTANTS if mutant.takes_long]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Workshop(tmp_path_factory.mktemp("workshop")) as workshop:
        yield workshop


def by_name(mutant: Mutant) -> str:
    return mutant.without


def noticed(workshop: Workshop, mutant: Mutant) -> None:
    with workshop.changed(mutant):
        outcome = workshop.run([mutant.caught_by], {"HISTORIES": str(mutant.histories), "SEED": str(mutant.seed)})
    assert outcome.code == FAILED, outcome.told
    assert outcome.failed, f"failed by what is around it: {outcome.told}"
    assert crash_in("\n".join(outcome.failed)) == mutant.crash, f"the change itself does not run: {outcome.failed}"


def passes(workshop: Workshop, mutants: list[Mutant]) -> None:
    """In an unchanged copy all is well, so what fails in a changed one fails by the change."""
    outcome = workshop.run(sorted({mutant.caught_by for mutant in mutants}), FEW)
    assert outcome.code == PASSED, outcome.told
    assert outcome.passed >= len({mutant.caught_by for mutant in mutants})


NOT_THERE = Mutant(
    "a crash, whatever it is that fails",
    "processor/stream/owner.py",
    "        if carrier.start != buffer.taken:\n",
    "        if carrier.start != buffer.nowhere:\n",
    "tests/unit/test_owner.py::test_a_carrier_that_begins_where_the_last_one_stopped_is_taken_and_no_other",
)


@pytest.mark.parametrize("test", [NOT_THERE.caught_by, SIMULATION], ids=["in a test", "in a story"])
def test_a_change_that_only_crashes_does_not_pass_for_a_guard_that_is_missed(workshop: Workshop, test: str) -> None:
    crashing = NOT_THERE._replace(caught_by=test)
    with pytest.raises(AssertionError, match="the change itself does not run"):
        noticed(workshop, crashing)
    noticed(workshop, crashing._replace(crash="AttributeError"))


def test_where_nothing_is_taken_out_all_tests_of_the_table_pass(workshop: Workshop) -> None:
    passes(workshop, quick)


@pytest.mark.parametrize("mutant", quick, ids=by_name)
def test_a_guard_that_is_taken_out_is_missed_by_its_test(workshop: Workshop, mutant: Mutant) -> None:
    noticed(workshop, mutant)


@pytest.mark.long
def test_where_nothing_is_taken_out_all_tests_that_take_long_pass(workshop: Workshop) -> None:
    passes(workshop, slow)


@pytest.mark.long
@pytest.mark.parametrize("mutant", slow, ids=by_name)
def test_a_guard_that_is_taken_out_is_missed_by_its_test_that_takes_long(workshop: Workshop, mutant: Mutant) -> None:
    noticed(workshop, mutant)
