"""What is left of this machine, judged by limits that it keeps and by limits that it cannot keep."""

import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from processes import child, python, read_line

from lstm_ts.errors import ConfigError
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.machine import MachineLimits, check_machine

GENEROUS = MachineLimits(host=None, min_disk_free=1e-9, min_memory_free=1e-9, max_files_open=0.999)
STRICT = MachineLimits(host=None, min_disk_free=1 - 1e-9, min_memory_free=1 - 1e-9, max_files_open=1e-9)
# Opens 90 files, of the 100 that it may.
FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = [open("/dev/null") for _ in range(90)]
print("open", flush=True)
sys.stdin.readline()
"""


def by_rule(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.rule: finding for finding in findings}


def test_a_machine_with_room_is_good_and_one_without_is_bad(tmp_path: Path) -> None:
    for limits, health in ((GENEROUS, Health.GOOD), (STRICT, Health.BAD)):
        found = check_machine([tmp_path], limits)
        assert [finding.rule for finding in found] == ["disk", "memory", "file_handles"]
        assert {finding.health for finding in found} == {health}


def test_the_figures_are_those_of_the_system(tmp_path: Path) -> None:
    found = by_rule(check_machine([tmp_path], GENEROUS))
    stats = os.statvfs(tmp_path)
    free = 100 * stats.f_bavail / (stats.f_bavail + stats.f_blocks - stats.f_bfree)
    said = float(found["disk"].sentence.split(" % of the disk of ")[0])
    assert said == pytest.approx(free, abs=1)
    assert f"disk of {tmp_path} on " in found["disk"].sentence
    available = float(found["memory"].sentence.split(" is free, ")[1].split(" GiB")[0])
    assert available == pytest.approx(psutil.virtual_memory().available / 2**30, rel=0.2)


def test_a_configured_name_takes_the_place_of_the_hosts(tmp_path: Path) -> None:
    subjects = {
        host: [finding.subject for finding in check_machine([tmp_path], replace(GENEROUS, host=host))]
        for host in (None, "cluster")
    }
    assert subjects["cluster"] == [f"cluster:{tmp_path}", "cluster", "cluster"]
    assert subjects[None][1:] == [socket.gethostname()] * 2


def test_folders_of_one_disk_are_one_finding_though_not_made_yet(tmp_path: Path) -> None:
    found = check_machine([tmp_path / "data" / "deep", tmp_path / "outputs", Path("relative")], GENEROUS)
    disks = [finding for finding in found if finding.rule == "disk" and str(tmp_path) in finding.subject]
    assert [finding.subject.split(":")[1] for finding in disks] == [f"{tmp_path}/data/deep"]


def test_a_process_about_to_run_out_of_files_is_named() -> None:
    limits = MachineLimits(host=None, min_disk_free=0.1, min_memory_free=0.1, max_files_open=0.8)
    command = python("-c", FILES)
    with child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert read_line(process) == "open"
        found = by_rule(check_machine([], limits))["file_handles"]
    assert found.health is Health.BAD
    assert f"Process {process.pid} (" in found.sentence
    assert "93 files open of the 100 that it may." in found.sentence


@pytest.mark.parametrize("share", [0, 1, -0.1, "most"])
def test_a_limit_that_is_no_share_is_said(share: object) -> None:
    values = vars(GENEROUS) | {"min_memory_free": share}
    with pytest.raises(ConfigError, match=r"checks\.machine\.min_memory_free as a share between 0 and 1, got"):
        MachineLimits(**values)
