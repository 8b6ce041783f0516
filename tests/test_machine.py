"""What is free is the least of what the machine has and of what control groups leave."""

import pytest

from focus_detr.machine import _left_in_groups, free_memory


def test_some_memory_is_free():
    assert 0 < free_memory() < 2**60


@pytest.mark.parametrize(
    ("line", "names", "top"),
    [
        ("0::/slice/job", ("memory.max", "memory.current", "inactive_file"), "."),
        (
            "4:memory:/slice/job",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            "memory",
        ),
    ],
)
def test_limits_of_control_groups_and_of_those_above_them_count(tmp_path, line, names, top):
    process, group = tmp_path / "cgroup", tmp_path / "root" / top / "slice" / "job"
    process.write_text(f"7:blkio:/other\n{line}\n")
    group.mkdir(parents=True)
    assert list(_left_in_groups(process, tmp_path / "root")) == []
    limit, used, files = names
    (group / limit).write_text("max\n")
    (group / used).write_text("10\n")
    (group.parent / limit).write_text("1000\n")
    (group.parent / used).write_text("700\n")
    (group.parent / "memory.stat").write_text(f"anon 500\n{files} 150\n")
    assert list(_left_in_groups(process, tmp_path / "root")) == [450]
    (group / limit).write_text("40\n")
    assert sorted(_left_in_groups(process, tmp_path / "root")) == [30, 450]


def test_a_containers_group_is_the_top_whatever_its_path_says(tmp_path):
    (tmp_path / "memory.max").write_text("64")
    (tmp_path / "memory.current").write_text("24")
    process = tmp_path / "cgroup"
    process.write_text("0::/of/the/host\n")
    assert list(_left_in_groups(process, tmp_path)) == [40]
    assert list(_left_in_groups(tmp_path / "missing", tmp_path)) == []
