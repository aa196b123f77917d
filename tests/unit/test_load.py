"""The scenarios of `janela load`: the same bytes from the same seed, in the shape that was asked for."""

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.codec.inputs import DeadLetter, InputDecoder
from processor.codec.keys import partition_of
from processor.core.events import Noted
from processor.kafka.connection import Connection
from processor.load import sending
from processor.load.delays import LONGEST_US, Delays
from processor.load.popularity import HEAD, Once, Uniform, Zipf
from processor.load.profile import Leg, Profile, profile_of
from processor.load.scenario import INBOUND_TYPES, OUTBOUND_TYPES, Scenario
from processor.load.sending import Loop
from processor.load.shard import Made, Shard
from processor.load.tally import Tally, decode_tally, encode_tally, together
from processor.settings import SettingsError
from processor.traffic import BUSIEST, HOURS

START_US = 1_795_373_239_000_000  # Sun 22 Nov 2026 18:47:19 UTC
PARTITIONS = 6
ALL_AMISS = {"bad": 0.05, "doubles": 0.1, "late": 0.05, "disorder": 0.2}


def scenario(**fields: Any) -> Scenario:
    return Scenario(**{"rate": 1000, "seconds": 10, "contacts": 500} | fields)


def made(of: Scenario, shard: int = 0, shards: int = 1, start_us: int = START_US) -> list[Made]:
    return list(Shard(of, start_us, PARTITIONS, shard, shards).records())


def by_lane(records: list[Made]) -> dict[int, list[Made]]:
    lanes: dict[int, list[Made]] = {}
    for record in records:
        lanes.setdefault(record[0], []).append(record)
    return lanes


# -------------------------------------------------------------------------------------------------------- the bytes


def test_the_same_seed_scenario_and_start_give_the_same_bytes() -> None:
    for fields in ({}, ALL_AMISS, {"popularity": "zipf"}, {"popularity": "once", "speed": 20}):
        assert made(scenario(**fields)) == made(scenario(**fields))


def test_another_seed_or_start_gives_other_bytes() -> None:
    records = made(scenario())
    other_seed, other_start = made(scenario(seed=2)), made(scenario(), start_us=START_US + 1000)
    assert {value for *_, value in records}.isdisjoint(value for *_, value in [*other_seed, *other_start])
    assert [key for _, _, key, _ in records] == [key for _, _, key, _ in other_start]


@pytest.mark.parametrize("shards", [2, 3, PARTITIONS])
@pytest.mark.parametrize("popularity", ["uniform", "zipf", "once"])
def test_any_number_of_shards_makes_the_same_records_in_the_order_of_each_partition(
    shards: int, popularity: str
) -> None:
    whole = scenario(popularity=popularity, **ALL_AMISS)
    parts = [by_lane(made(whole, shard, shards)) for shard in range(shards)]
    merged = {lane: records for part in parts for lane, records in part.items()}
    assert sum(map(len, parts)) == len(merged)  # no lane is in two shards
    assert merged == by_lane(made(whole))


def test_every_record_is_on_its_keys_partition_and_due_no_earlier_than_the_one_before() -> None:
    records = made(scenario(doubles=0.1, late=0.1))
    assert all(lane % PARTITIONS == partition_of(key, PARTITIONS) for lane, _, key, _ in records)
    assert all(before[1] <= after[1] for before, after in pairwise(records))


def test_ids_bear_the_moment_and_no_two_events_have_the_same() -> None:
    records = made(scenario())
    ids = [msgspec.json.decode(value)["id"] for *_, value in records]
    assert len(set(ids)) == len(records) == 10_000
    assert [int(id_.partition(".")[2]) for id_ in ids] == [moment_us for _, moment_us, _, _ in records]


# ------------------------------------------------------------------------------------------------- what a worker reads


def read(records: list[Made], written_ms: int | None = None) -> list[Any]:
    """Read records as the workers of their partitions would."""
    found = []
    for lane, moment_us, key, value in records:
        decoder = InputDecoder(lane % PARTITIONS, PARTITIONS, (), 65_536)
        decode = decoder.inbound if lane < PARTITIONS else decoder.outbound
        found.append(decode(key, value, moment_us // 1000 if written_ms is None else written_ms))
    return found


@pytest.mark.parametrize(
    "side_and_type",
    [("inbound", name) for name in sorted(INBOUND_TYPES)] + [("outbound", name) for name in sorted(OUTBOUND_TYPES)],
    ids=" ".join,
)
def test_every_type_can_be_read_and_is_at_home_on_its_side(side_and_type: tuple[str, str]) -> None:
    side, name = side_and_type
    share = 0.0 if side == "inbound" else 1.0
    records = made(scenario(rate=20, seconds=1, outbound=share, **{f"{side}_types": {name: 1}}))
    for event in read(records):
        assert not isinstance(event, DeadLetter), event
        assert not (isinstance(event, Noted) and event.count == "misplaced")
    assert {msgspec.json.decode(value)["type"] for *_, value in records} == {name}


def test_what_is_bad_and_nothing_else_becomes_a_dead_letter_of_many_kinds() -> None:
    shard = Shard(scenario(bad=0.1, late=0.1, disorder=0.2), START_US, PARTITIONS)
    reasons = Counter(event.reason for event in read(list(shard.records())) if isinstance(event, DeadLetter))
    assert reasons.total() == shard.counts["bad"] == pytest.approx(1000, rel=0.15)
    assert set(reasons) == {"not-json", "missing-field", "bad-field", "bad-time", "wrong-key", "future-time"}


def test_shares_of_sides_types_and_faults_are_as_asked_for() -> None:
    wanted = scenario(seconds=30, outbound=0.3, inbound_types={"text": 3, "call": 1}, **ALL_AMISS)
    shard = Shard(wanted, START_US, PARTITIONS)
    types = Counter(
        msgspec.json.decode(value).get("type") for lane, _, _, value in shard.records()
        if lane < PARTITIONS and value.endswith(b"}")
    )  # fmt: skip
    assert shard.counts["outbound"] == pytest.approx(9_000, rel=0.1)
    for name, share in ALL_AMISS.items():
        assert shard.counts[name] == pytest.approx(share * 30_000, rel=0.1)
    assert types["text"] / types["call"] == pytest.approx(3, rel=0.1)


def test_a_load_that_was_stopped_at_once_says_of_either_side_how_little_there_was() -> None:
    shard = Shard(scenario(), START_US, PARTITIONS)
    assert shard.counts == {"inbound": 0, "outbound": 0}
    records = shard.records()
    next(records)
    next(records)  # a record counts when the next one is asked for: until then it was not taken up
    assert shard.counts.total() == 1
    assert set(shard.counts) == {"inbound", "outbound"}


def test_a_double_is_a_record_that_its_partition_has_had_byte_for_byte() -> None:
    shard = Shard(scenario(doubles=0.2, doubles_within=50), START_US, PARTITIONS)
    seen: set[tuple[int, bytes, bytes]] = set()
    doubles = 0
    for lane, _, key, value in shard.records():
        doubles += (lane, key, value) in seen
        seen.add((lane, key, value))
    assert doubles == shard.counts["doubles"] > 1000


def test_what_is_late_or_out_of_order_bears_a_time_before_its_moment_and_all_else_its_moment() -> None:
    shard = Shard(scenario(late=0.1, late_seconds=7200, disorder=0.2, disorder_ms=500), START_US, PARTITIONS)
    records = list(shard.records())
    times = zip(records, read(records), strict=True)
    behind_ms = [moment_us // 1000 - event.event_time_ms for (_, moment_us, _, _), event in times]
    assert max(behind_ms) <= 7_200_001
    assert sum(behind > 0 for behind in behind_ms) == shard.counts["late"] + shard.counts["disorder"]
    assert sum(behind > 501 for behind in behind_ms) == pytest.approx(shard.counts["late"], rel=0.02)
    assert min(behind_ms) == 0


def test_at_a_speed_the_events_times_go_by_faster_than_their_moments() -> None:
    records = made(scenario(speed=8640, outbound=0))
    first, last = (event.event_time_ms for event in read([records[0], records[-1]], START_US // 1000 + 86_400_000))
    assert first == START_US // 1000
    assert last - first == pytest.approx(86_400_000, rel=0.001)
    assert records[-1][1] - records[0][1] < 10_000_000


# ---------------------------------------------------------------------------------------------------------- profiles


def a_second(profile: Profile) -> Counter[int]:
    """Count the events of each second."""
    return Counter(moment_us // 1_000_000 for moment_us in profile.moments_us(0, profile.events))


def test_a_constant_rate_is_the_same_in_every_second() -> None:
    assert set(a_second(profile_of(scenario(rate=333.0))).values()) <= {333, 334}


def test_a_ramp_goes_straight_from_one_rate_to_the_other() -> None:
    counts = a_second(profile_of(scenario(profile="ramp", from_rate=100, rate=1100)))
    assert [counts[second] for second in range(10)] == pytest.approx(range(150, 1150, 100), abs=2)


def test_a_ramp_from_nothing_and_one_that_goes_down_are_followed_too() -> None:
    up, down = Profile([Leg(10, 0, 100)]), Profile([Leg(10, 100, 0)])
    assert (up.events, down.events) == (500, 500)
    assert up.moments_us(0, 1) == [0]
    mirrored = [10_000_000 - moment_us for moment_us in reversed(down.moments_us(1, 499))]
    assert mirrored == pytest.approx(up.moments_us(1, 499), abs=50_000)


def test_a_spike_stands_in_the_middle_and_is_as_high_and_long_as_asked_for() -> None:
    profile = profile_of(scenario(profile="spike", rate=100, peak_rate=5000, peak_seconds=2))
    counts = a_second(profile)
    assert [counts[second] for second in range(10)] == pytest.approx([100] * 4 + [5000] * 2 + [100] * 4, abs=1)
    default = profile_of(Scenario(profile="spike", rate=100, seconds=100))
    assert a_second(default)[50] == 1000


def test_a_day_has_the_hours_of_a_business_and_the_mean_that_was_asked_for() -> None:
    day = scenario(profile="day", rate=1000, seconds=240)
    profile = profile_of(day)
    assert profile.events == pytest.approx(240_000, rel=0.001)
    counts = a_second(profile)
    busiest = HOURS.index(BUSIEST)
    assert counts[busiest * 10] == pytest.approx(1000 * BUSIEST / (sum(HOURS) / 24), rel=0.02)
    assert counts[busiest * 10] > 15 * counts[30]
    assert day.speed == 360


def test_a_campaign_has_each_of_half_a_million_contacts_write_once_within_a_minute() -> None:
    campaign = Scenario(profile="campaign")
    assert (campaign.contacts, profile_of(campaign).events, campaign.outbound) == (500_000, 500_000, 0)
    small = made(Scenario(profile="campaign", contacts=3000))
    assert len({key for _, _, key, _ in small}) == len(small) == 3000
    assert small[-1][1] - START_US == pytest.approx(60_000_000, rel=0.001)


legs = st.builds(
    Leg, st.floats(0.1, 100), st.floats(0, 1000) | st.just(0.0), st.floats(0.5, 1000)
)  # fmt: skip


@given(st.lists(legs, min_size=1, max_size=5), st.integers(1, 700))
def test_moments_never_go_back_stay_within_the_profile_and_are_the_same_in_parts(row: list[Leg], part: int) -> None:
    profile = Profile(row)
    events = min(profile.events, 1000)
    whole = profile.moments_us(0, events)
    assert len(whole) == events
    assert all(before <= after for before, after in pairwise(whole))
    assert not whole or 0 <= whole[0] <= whole[-1] <= profile.seconds * 1e6 + 1
    assert [
        us for first in range(0, events, part) for us in profile.moments_us(first, min(part, events - first))
    ] == whole
    late = profile.moments_us(profile.events - 1, 10) if profile.events else []
    assert len(late) == min(profile.events, 1)


# -------------------------------------------------------------------------------------------------------- popularity


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("contacts", [1, 10, HEAD, HEAD + 1, 3 * HEAD])
def test_a_zipf_distribution_gives_each_rank_its_share(exponent: float, contacts: int) -> None:
    """The share of the first k ranks is that of the sum of their weights, so chances on either side of it part them."""
    zipf = Zipf(contacts, exponent)
    weights = [rank**-exponent for rank in range(1, contacts + 1)]
    total, below = sum(weights), 0.0
    for rank, weight in enumerate(weights):
        if rank < 5 or rank % 9973 == 0 or rank > contacts - 3:
            assert zipf.writer((below + 0.5 * weight) / total, 0) == rank
            assert zipf.writer((below + 0.01 * weight) / total, 0) == rank
            assert zipf.writer((below + 0.99 * weight) / total, 0) == rank
        below += weight
    assert zipf.writer(0.0, 0) == 0
    assert zipf.writer(1 - 2**-53, 0) == contacts - 1


def test_a_uniform_distribution_reaches_all_and_no_more() -> None:
    uniform = Uniform(10)
    assert [uniform.writer((n + 0.5) / 10, 0) for n in range(10)] == list(range(10))
    assert uniform.writer(1 - 2**-53, 0) == 9


def test_who_writes_once_is_written_to_once_a_second_later() -> None:
    once = Once(3)
    assert once.addressee(0.5, 0) == -1
    assert [once.writer(0.5, moment_us) for moment_us in (0, 1, 2, 3)] == [0, 1, 2, 0]
    assert once.addressee(0.5, 10) == 1  # nobody's second has passed: whoever has waited longest
    assert [once.addressee(0.5, 1_000_002) for _ in range(3)] == [1, 2, 2]
    assert once.addressee(0.5, 1_000_003) == 0


# --------------------------------------------------------------------------------------------------------- scenarios


def lines_of(text: str, tmp_path: Path, **given: Any) -> list[str]:
    path = tmp_path / "load.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Scenario.load(path, given)
    return caught.value.lines


def test_a_file_and_what_stands_over_it_make_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "load.toml"
    path.write_text('profile = "spike"\nrate = 50\n[inbound_types]\ntext = 2\ncall = 1\n')
    found = Scenario.load(path, {"rate": 20.0, "outbound_types": "text=3, template=1"})
    assert (found.profile, found.rate, found.peak_rate, found.peak_seconds) == ("spike", 20, 200, 6)
    assert (found.inbound_types, found.outbound_types) == ({"text": 2, "call": 1}, {"text": 3, "template": 1})


def test_all_that_is_wrong_with_a_scenario_is_told_at_once_and_by_name(tmp_path: Path) -> None:
    wrong = 'rat = 5\nseconds = "long"\ncontacts = true\nbad = 1.5\n[inbound_types]\nsong = 1\n'
    lines = lines_of(wrong, tmp_path, profile="wave", outbound_types="text=0")
    assert len(lines) == 7
    assert lines[0] == f"rat (file {tmp_path / 'load.toml'}): no scenario has this; did you mean rate?"
    told = "\n".join(lines)
    for word in (
        'profile (--profile): found "wave" (argument); allowed: "constant" or "ramp"',
        f'seconds (--seconds): found "long" (file {tmp_path / "load.toml"}); allowed: a number above 0',
        "contacts (--contacts): found true",
        "bad (--bad): found 1.5",
        "no such type: song; allowed: a weight for each type",
        "outbound_types (--outbound-types): found",
    ):
        assert word in told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bad = 0.6\nlate = 0.5", "scenario: bad, doubles, late and disorder are more than 1 together"),
        ('profile = "spike"\npeak_seconds = 60', "scenario: a peak of 60 s does not fit into 60 s"),
    ],
)
def test_what_contradicts_itself_is_told_in_a_line(text: str, line: str, tmp_path: Path) -> None:
    assert lines_of(text, tmp_path) == [line]


def test_a_file_that_is_no_toml_or_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    (line,) = lines_of("rate = ", tmp_path)
    assert "not TOML" in line
    with pytest.raises(SettingsError) as caught:
        Scenario.load(tmp_path / "nowhere.toml")
    assert "No such file" in str(caught.value)


def test_a_scenario_that_was_written_down_is_the_same_again() -> None:
    for profile in ("constant", "ramp", "spike", "day", "campaign"):
        found = Scenario(profile=profile, seconds=30)
        assert Scenario(**found.model_dump()) == found


# ------------------------------------------------------------------------------------------------------------ tallies


@given(st.lists(st.integers(-5, 10**9), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_of_delays_is_right_to_one_in_a_thousand(delays_us: list[int], share: float) -> None:
    delays = Delays()
    for delay_us in delays_us:
        delays.note(delay_us)
    ordered = sorted(max(delay_us, 0) for delay_us in delays_us)
    exact_ms = ordered[max(int(share * len(ordered) + 0.5), 1) - 1] / 1000
    (found_ms,) = Delays.decoded(delays.encoded()).quantiles_ms(share)
    assert exact_ms - 0.01 <= found_ms <= exact_ms * 1.001 + 0.01


def test_no_delay_is_too_long_to_be_counted() -> None:
    delays = Delays()
    delays.note(LONGEST_US * 50, 3)
    assert delays.count == 3
    assert delays.quantiles_ms(0.5) == [pytest.approx(LONGEST_US / 1000, rel=0.001)]


@pytest.mark.parametrize("text", ["", "x", "HISTFAAA", "é"])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no histogram"):
        Delays.decoded(text)


def test_a_tally_that_went_from_process_to_process_says_the_same() -> None:
    tally = Tally(made=3)
    tally.behind.note(5_000, 2)
    found = decode_tally(encode_tally(tally))
    assert (found.made, found.behind.count, found.delays.count) == (3, 2, 0)
    assert found.behind.quantiles_ms(0.5, 1.0) == tally.behind.quantiles_ms(0.5, 1.0)


async def test_a_load_that_is_stopped_while_the_last_answers_are_out_is_not_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "STOP_S", 0.05)
    loop = Loop(Connection("nowhere:1"), ("in", "out"), PARTITIONS)

    async def unanswered(*_: Any, **__: Any) -> asyncio.Future[None]:
        loop.stop()
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(loop._producer, "send_batch", unanswered)
    few = scenario(rate=10, seconds=1)
    await loop.run(Shard(few, START_US, PARTITIONS), START_US, START_US)  # all of it is due
    await loop._producer.stop()
    assert (loop.tally.made, loop.tally.in_flight, loop.tally.is_whole) == (10, 10, False)


def test_tallies_of_several_processes_add_up() -> None:
    first = Tally(made=5, acknowledged=3, by_topic={"a": 3}, kinds={"inbound": 5}, is_whole=True, behind_us=7)
    second = Tally(made=4, acknowledged=4, failed=0, by_topic={"a": 1, "b": 3}, kinds={"inbound": 4}, is_whole=False)
    first.delays.note(1000, 3)
    second.delays.note(9000, 4)
    both = together([first, second])
    assert (both.made, both.acknowledged, both.in_flight, both.behind_us, both.is_whole) == (9, 7, 2, 7, False)
    assert (both.by_topic, both.kinds) == ({"a": 4, "b": 3}, {"inbound": 9})
    assert both.delays.quantiles_ms(0.3, 1.0) == [pytest.approx(1, rel=0.03), pytest.approx(9, rel=0.03)]
    assert together([]).is_whole
