"""Holes, the guards that close them, and the test of each that fails where its guard is taken out.

A guard is taken out by changing one place in one file: `guard` stands there once, and becomes `instead`. The table in
docs/guards.md is made from this one (``python -m tests.mutants.guards``).
"""

from typing import Final, NamedTuple

SIMULATION: Final = "tests/sim/test_simulation.py::test_whatever_befalls_the_workers_the_model_is_obeyed"
HISTORIES: Final = 300
"""How many stories the simulation may need to find a hole."""
RARE_HISTORIES: Final = 3_000
"""The same of a hole that few stories come by."""


class Mutant(NamedTuple):
    """A guard that is taken out."""

    without: str
    """What happens without it."""
    file: str
    guard: str
    instead: str
    caught_by: str
    histories: int = HISTORIES
    seed: int = 1
    """The story from which on the simulation looks: the first one that showed the hole when the row was written."""
    crash: str = ""
    """The exception that its test must see, where that is one of those that count for nothing else (`crashes`)."""

    @property
    def takes_long(self) -> bool:
        """Whether its test asks for a real Kafka, or for very many stories."""
        return self.histories > HISTORIES or self.caught_by.startswith(("tests/integration/", "tests/chaos/"))


_OWNER = "tests/unit/test_owner.py::"
_WINDOW = "tests/unit/test_window.py::"
_PARTITION = "tests/unit/test_partition.py::"
_MERGE = "tests/unit/test_merge.py::"
_INPUTS = "tests/unit/test_inputs.py::"
_INTERNALS = "tests/integration/test_stream_internals.py::"
_REBUILD = "tests/integration/test_rebuild_verb.py::"
_GUARDS = "tests/integration/test_stream_guards.py::"
_HANDING_OVER = "tests/sim/test_handing_over.py::"
_WORKER = "tests/integration/test_worker.py::"

MUTANTS: Final = (
    # ---------------------------------------------------------------------------------------------------------- core
    Mutant(
        "a window is open at its very end",
        "processor/core/window.py",
        "return event_time_ms < (self",
        "return event_time_ms <= (self",
        "tests/unit/test_sending.py::test_the_window_carries_a_send_until_its_last_millisecond",
    ),
    Mutant(
        "a window ends a millisecond after its end",
        "processor/core/window.py",
        "elif window.expires_at <= due_ms:",
        "elif window.expires_at < due_ms:",
        _WINDOW + "test_a_window_is_open_in_its_last_millisecond_and_closed_at_24_hours",
    ),
    Mutant(
        "a message a whole window late opens one",
        "processor/core/window.py",
        "if event_time_ms + length_ms <= self.clock_ms:",
        "if event_time_ms + length_ms < self.clock_ms:",
        _WINDOW + "test_a_message_a_whole_window_behind_the_clock_opens_nothing",
    ),
    Mutant(
        "a double after the close opens a window",
        "processor/core/window.py",
        "if message.event_time_ms > window.last_inbound_at:",
        "if True:",
        _WINDOW + "test_a_message_that_is_not_newer_opens_nothing_even_where_it_is_in_time",
    ),
    Mutant(
        "a threshold that is due at the opening is forgotten",
        "processor/core/window.py",
        "for threshold_ms in self._thresholds_ms if expires_at - threshold_ms <= self.clock_ms",
        "for threshold_ms in self._thresholds_ms if expires_at - threshold_ms < self.clock_ms",
        _WINDOW + "test_a_threshold_is_past_at_the_opening_from_its_own_millisecond_on",
    ),
    Mutant(
        "a threshold comes too late after a small extension",
        "processor/core/window.py",
        "            if due_ms < old_end_ms:\n                self.timers.arm(due_ms, message.key)",
        "            pass",
        _WINDOW + "test_an_extension_whose_new_due_time_is_after_the_clock_warns_before_the_old_end",
    ),
    Mutant(
        "a timer that is due at an event's time fires after it",
        "processor/core/partition.py",
        "if event_time_ms >= timers.earliest_ms and",
        "if event_time_ms > timers.earliest_ms and",
        _PARTITION + "test_what_is_due_at_or_before_an_event_comes_before_it",
    ),
    Mutant(
        "the clock goes back",
        "processor/core/partition.py",
        "            if event_time_ms > windows.clock_ms:\n",
        "            if True:\n",
        _PARTITION + "test_the_clock_is_the_largest_event_time_and_never_goes_back",
    ),
    Mutant(
        "timers that had fired fire again after a restore",
        "processor/core/partition.py",
        "        self.windows.clock_ms = clock_ms\n",
        "",
        _PARTITION + "test_what_had_fired_by_the_committed_clock_does_not_fire_again",
    ),
    Mutant(
        "two reminders of one due time fire twice",
        "processor/core/timers.py",
        "if timer != self._last_popped:",
        "if True:",
        "tests/unit/test_timers.py::test_two_reminders_of_one_due_time_are_one_timer",
    ),
    # --------------------------------------------------------------------------------------------------------- codec
    Mutant(
        "an event ahead of its record moves the clock of all",
        "processor/codec/inputs.py",
        "FUTURE_TOLERANCE_MS: Final = 5 * 60_000",
        "FUTURE_TOLERANCE_MS: Final = 10**15",
        _INPUTS + "test_the_year_2099_is_refused",
    ),
    # ---------------------------------------------------------------------------------------------- taking records in
    Mutant(
        "stale carriers and jumps are taken",
        "processor/stream/owner.py",
        "        if carrier.start != buffer.taken:\n            return False\n",
        "",
        _OWNER + "test_a_carrier_that_begins_where_the_last_one_stopped_is_taken_and_no_other",
    ),
    Mutant(
        "buffers are kept over a rebalance",
        "processor/stream/assignment.py",
        "        owner.stand_at(positions)\n",
        "",
        SIMULATION,
    ),
    Mutant(
        "a carrier that does not fit is dropped for good",
        "processor/stream/assignment.py",
        '        self._engine.guard(self._reopen(owner, side, carrier), "reopen")\n',
        "",
        SIMULATION,
        seed=1_000_000_030,
    ),
    Mutant(
        "an input goes on without the other's end",
        "processor/stream/owner.py",
        "end is not None and buffer.taken >= end",
        "end is None or buffer.taken >= end",
        _OWNER + "test_the_clock_stands_while_one_topic_is_not_known_to_be_read_to_its_end",
    ),
    Mutant(
        "an open transaction upstream passes for the end",
        "processor/kafka/log.py",
        "return LogEnds(noted_ms, await self._all.end_offsets(list(tps)))",
        "return LogEnds(noted_ms, await self._committed.end_offsets(list(tps)))",
        SIMULATION,
        seed=1_000_000_016,
    ),
    Mutant(
        "a send is judged before the message of the same time",
        "processor/stream/merge.py",
        "if first_time_ms <= second_time_ms:",
        "if first_time_ms < second_time_ms:",
        _MERGE + "test_the_earlier_head_goes_first_and_inbound_where_they_are_equal",
    ),
    Mutant(
        "a dead letter leaves before the offsets pass it",
        "processor/stream/merge.py",
        "if bad.record.offset < position]",
        "]",
        _MERGE + "test_dead_letters_leave_when_the_position_passes_them_and_not_before",
    ),
    # ---------------------------------------------------------------------------------------------------- idle clocks
    Mutant(
        "timers fire in a backlog",
        "processor/stream/owner.py",
        "if all(ended) and not self.has_input() and self",
        "if all(ended) and self",
        _OWNER + "test_the_clock_stands_while_anything_waits_to_be_applied",
    ),
    Mutant(
        "one topic's end is enough for an idle clock",
        "processor/stream/owner.py",
        "if all(ended) and not",
        "if any(ended) and not",
        _OWNER + "test_the_clock_stands_while_one_topic_is_not_known_to_be_read_to_its_end",
    ),
    Mutant(
        'an idle clock moves to "now"',
        "processor/stream/owner.py",
        "self._move_idle_clock(ends.noted_ms, effects)",
        "self._move_idle_clock(now_ms, effects)",
        _OWNER + "test_a_process_that_was_held_still_moves_its_clock_to_the_noted_time_and_not_to_now",
    ),
    Mutant(
        "an end is noted when the answer comes",
        "processor/kafka/log.py",
        "        noted_ms = self._now_ms()\n        return LogEnds(noted_ms, await self._all.end_offsets(list(tps)))",
        "        ends = await self._all.end_offsets(list(tps))\n        return LogEnds(self._now_ms(), ends)",
        "tests/unit/test_log.py::test_the_ends_of_logs_count_from_before_the_question",
    ),
    Mutant(
        "an idle clock has no grace",
        "processor/stream/owner.py",
        "idle_ms = noted_ms - self._settings.timer_grace_ms",
        "idle_ms = noted_ms",
        _OWNER + "test_idle_time_moves_the_clock_to_the_noted_time_less_the_grace",
    ),
    Mutant(
        "timers go by the machine's clock",
        "processor/kafka/clock.py",
        "return int(self._zero_ms + time.monotonic() * 1000)",
        "return time.time_ns() // 1_000_000",
        SIMULATION,
        seed=1_000_000_043,
    ),
    Mutant(
        "the time is not asked again",
        "processor/kafka/clock.py",
        "if stepped_ms > STEP_MS or time.monotonic() - self._asked_s > _GOOD_S:",
        "if False:",
        "tests/integration/test_clock.py::test_a_machine_whose_clock_was_set_asks_again",
    ),
    Mutant(
        "a replay looks at the wall clock",
        "processor/stream/owner.py",
        ' and self._settings.clock == "live":',
        ":",
        _OWNER + "test_a_replay_does_not_look_at_the_wall_clock",
    ),
    Mutant(
        "a tick that fires nothing commits",
        "processor/stream/owner.py",
        "if not (applied or bad or effects):",
        "if not (applied or bad or effects or all(ended)):",
        _OWNER + "test_a_tick_that_fires_nothing_commits_nothing",
    ),
    # --------------------------------------------------------------------------------------------------- transactions
    Mutant(
        "the offsets of one input alone are sent",
        "processor/stream/owner.py",
        "{tp: buffer.position for tp, buffer in zip(self.inputs, self.buffers, strict=True)}",
        "{self.inputs[INBOUND]: self.buffers[INBOUND].position}",
        SIMULATION,
    ),
    Mutant(
        "a round is committed before its records are delivered",
        "processor/kafka/producer.py",
        "            await asyncio.gather(*deliveries)\n",
        "",
        SIMULATION,
    ),
    Mutant(
        "offsets are committed before the outputs",
        "processor/stream/loop.py",
        "        await self.producer.commit(batches, offsets, self.membership)\n",
        "        await self.producer.commit([], offsets, self.membership)\n"
        "        await self.producer.commit(batches, offsets, self.membership)\n",
        SIMULATION,
    ),
    Mutant(
        "the tail of each round is dropped",
        "processor/stream/owner.py",
        "in zip(effects.outputs, of_outputs):",
        "in zip(effects.outputs[: -1 if len(effects.outputs) > 1 else None], of_outputs):",
        SIMULATION,
    ),
    Mutant(
        "verify overlooks what is missing at the end",
        "processor/audit/outputs.py",
        "(place, due)\n            yield from self._lost()\n",
        "(place, due)\n            self._missing.clear()\n",
        "tests/unit/test_verdict.py::test_a_topic_without_its_tail_has_lost_each_event_of_it",
    ),
    Mutant(
        "verify overlooks a number beyond the committed one",
        "processor/audit/outputs.py",
        "        yield from self._beyond_committed(before)\n",
        "",
        "tests/unit/test_verdict.py::test_a_number_beyond_the_committed_one_is_unexpected",
    ),
    Mutant(
        "verify overlooks that a round took more than is committed",
        "processor/audit/verdict.py",
        "    yield from _uncommitted_faults(found)\n",
        "",
        "tests/unit/test_rounds.py::test_a_round_that_took_more_than_is_committed_is_found",
    ),
    Mutant(
        "a failed round is passed over",
        "processor/stream/loop.py",
        "        await self.producer.commit(batches, offsets, self.membership)\n",
        "        with suppress(Exception):\n"
        "            await self.producer.commit(batches, offsets, self.membership)\n",
        SIMULATION,
    ),
    Mutant(
        "work that fails in the background ends nothing",
        "processor/stream/engine.py",
        "is not None:\n            self.fail(error)\n",
        "is not None:\n            return\n",
        SIMULATION,
    ),
    Mutant(
        "a step waits for its answer for ever",
        "processor/kafka/producer.py",
        "asyncio.timeout_at(self._deadline_s)",
        "asyncio.timeout_at(None)",
        SIMULATION,
        seed=1_000_000_033,
    ),
    Mutant(
        "offsets are taken from whoever sends them",
        "tests/sim/cluster.py",
        "        if membership.member_id not in self.members:\n            raise UnknownMemberIdError\n"
        "        if membership.generation != self.generation:\n            raise IllegalGenerationError\n",
        "",
        SIMULATION,
        seed=25,
    ),
    Mutant(
        "a broker that is too old is let in",
        "processor/features.py",
        "if version is None or version < request.API_VERSION:",
        "if version is None:",
        "tests/unit/test_features.py::test_an_older_broker_is_refused_by_the_version_of_kafka_that_is_needed",
    ),
    # ---------------------------------------------------------------------------------------- taking over, letting go
    Mutant(
        "a round is committed under the membership of that moment",
        "processor/stream/transport.py",
        "membership = Membership(\n"
        "            coordinator.generation, coordinator.member_id, coordinator._group_instance_id\n        )\n",
        "membership = coordinator\n",
        "tests/unit/test_transport.py::"
        "test_a_membership_is_the_one_that_was_assigned_whatever_the_coordinator_says_later",
    ),
    Mutant(
        "a stale token is kept",
        "processor/stream/owner.py",
        "        self.token = None\n        told",
        "        told",
        _OWNER + "test_deciding_clears_the_token_and_only_the_newest_rounds_commit_sets_it",
    ),
    Mutant(
        "an older round's commit vouches for a newer state",
        "processor/stream/owner.py",
        "if round_ is self._latest:",
        "if True:",
        _OWNER + "test_deciding_clears_the_token_and_only_the_newest_rounds_commit_sets_it",
    ),
    Mutant(
        "uncommitted state is restored",
        "processor/stream/restore.py",
        'isolation_level="read_committed"',
        'isolation_level="read_uncommitted"',
        SIMULATION,
    ),
    Mutant(
        "what a damaged batch says it passes is passed over",
        "processor/kafka/fetched.py",
        "            if begin < passed:\n",
        "            if False:\n",
        "tests/unit/test_fetched.py::test_no_bit_that_changed_where_a_batch_lies_changes_or_skips_a_record",
    ),
    Mutant(
        "damaged state is a reason to start once more",
        "processor/stream/restore.py",
        "        except CorruptRecordException as error:\n",
        "        except ZeroDivisionError as error:\n",
        "tests/integration/test_damaged_log.py::test_damage_on_a_brokers_disk_is_refused_by_its_place",
    ),
    Mutant(
        "an owner is at work before its state is complete",
        "processor/stream/restore.py",
        "                if not behind:\n",
        "                if True:\n",
        SIMULATION,
    ),
    Mutant(
        "a revocation does not wait for the transaction under way",
        "processor/stream/assignment.py",
        "            await asyncio.wait([self._running])\n",
        "            pass\n",
        SIMULATION,
        RARE_HISTORIES,
        seed=280,
    ),
    Mutant(
        "a revocation waits for a take-over to come to its end",
        "processor/stream/assignment.py",
        "            self._taking.cancel()\n",
        "",
        _HANDING_OVER + "test_a_revocation_does_not_wait_for_a_take_over_to_come_to_its_end",
    ),
    Mutant(
        "a take-over goes on after its assignment was revoked",
        "processor/stream/assignment.py",
        "            await asyncio.wait([self._taking])\n",
        "",
        _HANDING_OVER + "test_a_revocation_is_over_when_nothing_of_its_assignment_runs_any_more",
    ),
    Mutant(
        "an assignment begins beside one that is being revoked",
        "processor/stream/engine.py",
        "        async with self._changing:\n            membership",
        "        if True:\n            membership",
        _HANDING_OVER + "test_what_is_assigned_while_a_revocation_is_under_way_begins_after_it",
    ),
    Mutant(
        "a stop does not wait for a revocation under way",
        "processor/stream/engine.py",
        "        async with self._changing:\n            if self.assignment",
        "        if True:\n            if self.assignment",
        _HANDING_OVER + "test_a_stop_that_meets_a_revocation_waits_for_it",
    ),
    Mutant(
        "outputs are numbered anew after a restore",
        "processor/stream/assignment.py",
        "clock_ms, owner.sequence = progress.clock_ms, progress.sequence",
        "clock_ms = progress.clock_ms",
        SIMULATION,
    ),
    Mutant(
        "the committed clock is not restored",
        "processor/stream/assignment.py",
        "clock_ms, owner.sequence = progress.clock_ms, progress.sequence",
        "owner.sequence = progress.sequence",
        SIMULATION,
    ),
    # ----------------------------------------------------------------------------------------------- on a real broker
    Mutant(
        "offsets are sent without a fence",
        "processor/kafka/producer.py",
        "if membership != OUTSIDER and (membership.generation <= 0 or not membership.member_id):",
        "if False:",
        _INTERNALS + "test_offsets_without_a_fence_are_not_even_sent",
    ),
    Mutant(
        "the group's fence is skipped",
        "processor/kafka/protocol.py",
        "await _TxnOffsetCommitHandler(self, offsets, group_id, self.membership).do(node_id)",
        "await aiokafka_sender.TxnOffsetCommitHandler(self, offsets, group_id).do(node_id)",
        _INTERNALS + "test_offsets_of_an_old_generation_are_refused",
    ),
    Mutant(
        "transactions share an epoch, as before EndTxn v5",
        "processor/kafka/protocol.py",
        "await _EndTxnHandler(self, commit_result).do(node_id)",
        "await aiokafka_sender.EndTxnHandler(self, commit_result).do(node_id)",
        _INTERNALS + "test_a_late_copy_of_an_end_is_refused_inside_the_next_transaction",
    ),
    Mutant(
        "a cluster that was never raised to transactions of version 2 is worked on",
        "processor/preflight.py",
        "topics.errors(await features.problems(settings)) or await",
        "await",
        "tests/integration/test_features.py::"
        "test_a_cluster_that_was_never_raised_to_transactions_of_version_2_is_refused_until_it_is",
    ),
    Mutant(
        "a batch that failed is committed over",
        "processor/kafka/producer.py",
        "            await asyncio.gather(*deliveries)\n",
        "            await asyncio.wait(deliveries)\n",
        _INTERNALS + "test_a_batch_that_failed_is_never_committed_over",
    ),
    Mutant(
        "inputs are read uncommitted",
        "processor/stream/transport.py",
        'consumer._isolation_level = "read_committed"',
        'consumer._isolation_level = "read_uncommitted"',
        _INTERNALS + "test_the_live_consumer_reads_committed_records_and_its_carriers_cover_every_gap",
    ),
    Mutant(
        "a partition is opened without a seek",
        "processor/stream/transport.py",
        "            consumer.seek(tp, offset)\n",
        "",
        _GUARDS + "test_a_jump_of_positions_is_seen_and_what_it_left_out_is_read",
    ),
    Mutant(
        "a fetch from before a rebalance takes what was opened after it",
        "processor/stream/transport.py",
        " if opening <= given}",
        "}",
        "tests/integration/test_stream_internals.py"
        "::test_whoever_asked_before_a_partition_was_opened_is_given_nothing_of_it",
    ),
    Mutant(
        "what waits for the agent is cleared whenever Faust resumes",
        "processor/stream/app.py",
        "super().FlowControlQueue(maxsize)",
        "super().FlowControlQueue(maxsize, clear_on_resume=True)",
        "tests/unit/test_app.py::test_what_waits_for_the_agent_stays_there_when_faust_resumes_a_second_time",
    ),
    Mutant(
        "the transaction of a writer that lives is ended in its name",
        "processor/stream/engine.py",
        "if writer == self.transactional_id or not await is_gone(self.connection, self.settings.app_id, writer):",
        "if writer == self.transactional_id:",
        _GUARDS + "test_the_open_transaction_of_a_live_member_is_spared_and_that_of_a_dead_one_is_ended",
    ),
    Mutant(
        "records that were deleted unread are passed over",
        "processor/stream/assignment.py",
        "if tp in committed and committed[tp][0] in there[tp] else None",
        "if tp in committed else None",
        _WORKER + "test_committed_offsets_below_the_begin_of_the_log_are_refused_and_not_passed_over",
    ),
    Mutant(
        "a worker starts without the asserts that guard transactions",
        "processor/stream/app.py",
        "    if not __debug__:\n",
        "    if False:\n",
        _WORKER + "test_a_python_without_asserts_is_refused",
    ),
    Mutant(
        "a rebuild's offsets are taken while a worker is in the group",
        "processor/kafka/protocol.py",
        'OUTSIDER = Membership(-1, "outsider", None)',
        'OUTSIDER = Membership(-1, "", None)',
        _REBUILD + "test_while_a_worker_is_in_the_group_nothing_is_written_also_where_it_comes_last",
    ),
    Mutant(
        "a state that a rebuild has half written is not marked",
        "processor/rebuild/rebuilder.py",
        "await self._mark(parts)",
        "pass",
        _REBUILD + "test_a_rebuild_that_is_killed_is_started_again_and_no_worker_takes_what_it_left",
    ),
    Mutant(
        "a rebuild goes by the times of inputs where their rounds are known",
        "processor/rebuild/standings.py",
        "found.append(standing)",
        "pass",
        _REBUILD + "test_the_inputs_are_applied_in_the_order_in_which_they_were_taken_and_not_in_that_of_their_times",
    ),
    Mutant(
        "a late copy of an end commits half of the next transaction",
        "processor/kafka/protocol.py",
        "await _EndTxnHandler(self, commit_result).do(node_id)",
        "await aiokafka_sender.EndTxnHandler(self, commit_result).do(node_id)",
        "tests/chaos/test_network.py::"
        "test_a_late_copy_of_an_end_commits_nothing_of_a_transaction_whose_worker_then_dies",
    ),
)
