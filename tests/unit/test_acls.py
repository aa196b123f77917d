"""The least rights of each party follow from the contract's files, and are written as Kafka's own tool takes them."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from processor import contract
from processor.access import Access
from processor.acls import PARTIES, ROLES, Acl, acls, commands
from processor.cli.main import app
from processor.settings import Settings, variable

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(topic_prefix="acme.", app_id="janela-acme")


def on_topics(role: str, operation: str) -> set[str]:
    return {acl.name for acl in acls(SETTINGS, role) if (acl.resource, acl.operation) == ("topic", operation)}


@pytest.mark.parametrize("party", ["processor", *PARTIES])
def test_a_party_reads_what_it_consumes_and_writes_what_it_produces_and_nothing_else(party: str) -> None:
    role = "worker" if party == "processor" else party
    assert on_topics(role, "Read") == {f"acme.{it.name}" for it in contract.topics() if party in it.consumers}
    assert on_topics(role, "Write") == {f"acme.{it.name}" for it in contract.topics() if party in it.producers}


def test_the_parties_are_those_that_the_contract_names() -> None:
    assert PARTIES == ("dispatcher", "operations", "platform")


def test_a_worker_has_beside_its_topics_a_group_and_the_transactions_of_its_fleet() -> None:
    beside = [acl for acl in acls(SETTINGS, "worker") if acl.resource != "topic"]
    assert beside == [
        Acl("group", "janela-acme", "Read"),
        Acl("transactional-id", "janela-acme-", "Write", is_prefix=True),
    ]
    assert on_topics("worker", "DescribeConfigs") == {"acme.window-state", "acme.consent-state"}


def test_who_scales_may_look_at_the_lag_and_at_nothing_else() -> None:
    found = acls(SETTINGS, "autoscaler")
    assert {acl.operation for acl in found} == {"Describe"}
    assert sorted(acl.resource for acl in found) == ["group", "topic", "topic"]


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_alter_or_delete_and_nothing_is_for_everybody(role: str) -> None:
    rights = acls(SETTINGS, role)
    assert len(set(rights)) == len(rights)
    assert {acl.operation for acl in rights} <= {"Read", "Write", "Create", "Describe", "DescribeConfigs"}
    assert role == "operator" or all(acl.operation != "Create" for acl in rights)
    assert all(acl.name and acl.name != "*" for acl in rights)


def test_who_reads_has_the_right_to_a_group_of_its_own_name() -> None:
    assert Acl("group", "sender", "Read") in acls(SETTINGS, "dispatcher", "sender")
    assert Acl("group", "dispatcher", "Read") in acls(SETTINGS, "dispatcher")


def test_a_role_that_is_none_is_an_error_that_lists_them() -> None:
    with pytest.raises(
        ValueError, match="worker, dispatcher, operations, platform, auditor, autoscaler, operator, rebuilder, replayer"
    ):
        acls(SETTINGS, "root")
    told = CliRunner().invoke(app, ["topics", "acls", "--for", "root"])
    assert told.exit_code == 2


def test_rights_are_written_as_calls_of_kafkas_tool_one_a_resource() -> None:
    rights = [
        Acl("topic", "acme.a", "Read"),
        Acl("topic", "acme.a", "Write"),
        Acl("transactional-id", "janela-", "Write", is_prefix=True),
        Acl("cluster", "kafka-cluster", "DescribeConfigs"),
    ]
    on_topic, on_transactions, on_cluster = commands(rights, "User:CN=a b", "k:9092")
    begin = ["kafka-acls.sh", "--bootstrap-server", "k:9092", "--add", "--allow-principal", "User:CN=a b"]
    assert shlex.split(on_topic) == [*begin, "--operation", "Read", "--operation", "Write", "--topic", "acme.a"]
    prefixed = ["--transactional-id", "janela-", "--resource-pattern-type", "prefixed"]
    assert shlex.split(on_transactions) == [*begin, "--operation", "Write", *prefixed]
    assert shlex.split(on_cluster) == [*begin, "--operation", "DescribeConfigs", "--cluster"]


def test_the_verb_prints_both_ways_for_who_logs_in_or_who_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_USERNAME": "bob", "SASL_PASSWORD": "x"}.items():
        monkeypatch.setenv(f"JANELA_{name}", value)
    lines = CliRunner().invoke(app, ["topics", "acls"]).output.splitlines()
    assert len(lines) == 12  # ten topics, a group, transactional ids
    assert all("--allow-principal User:bob " in line for line in lines)
    told = json.loads(
        CliRunner().invoke(app, [*"topics acls --json --principal User:eve --for platform".split()]).output
    )
    assert told["principal"] == "User:eve"
    assert {"resource": "topic", "name": "messages.inbound", "operation": "Write", "is_prefix": False} in told["acls"]
    assert CliRunner().invoke(app, ["topics", "acls", "--principal", "eve"]).exit_code == 2


def test_the_page_on_security_lists_a_workers_rights_and_every_setting() -> None:
    page = (ROOT / "docs/security.md").read_text("utf-8")
    listed = page.partition("<!-- worker:begin -->\n")[2].partition("<!-- worker:end -->")[0]
    assert listed.splitlines() == [f"* {acl}" for acl in acls(Settings(), "worker")]
    named = set(re.findall(r"`(JANELA_\w+)`", page))
    assert named == {variable(name) for name in Access.model_fields} - {"JANELA_BOOTSTRAP_SERVERS"}
