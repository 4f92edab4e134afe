"""Instance types: architecture, size, what pods can use of it, and the Graviton twin."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.common.errors import ArchshiftError
from archshift.nodes.instance_types import INSTANCE_TYPES, graviton_families, instance_type, twin
from tools.instance_types import TABLE, make_table, read_catalogue, write_table

CATALOGUE = read_catalogue()
MAC = {name for name in CATALOGUE if name.startswith("mac")}
X86 = sorted(name for name, found in INSTANCE_TYPES.items() if found.architecture == "amd64")
GRAVITON = sorted(set(INSTANCE_TYPES) - set(X86))


def test_every_type_of_the_ec2_catalogue_is_there_and_right() -> None:
    """Architecture, vCPU and memory of 1,386 types, macOS apart, which no Kubernetes node runs."""
    wrong = []
    for name, entry in CATALOGUE.items():
        if name in MAC:
            assert set(entry["ProcessorInfo"]["SupportedArchitectures"]) <= {"arm64_mac", "x86_64_mac"}
            assert name not in INSTANCE_TYPES
            continue
        architecture = "arm64" if "arm64" in entry["ProcessorInfo"]["SupportedArchitectures"] else "amd64"
        expected = (architecture, entry["VCpuInfo"]["DefaultVCpus"], entry["MemoryInfo"]["SizeInMiB"])
        found = INSTANCE_TYPES[name]
        if (found.architecture, found.vcpu, found.memory_mib) != expected or found.name != name:
            wrong.append((name, found, expected))
    assert wrong == []
    assert set(INSTANCE_TYPES) == set(CATALOGUE) - MAC | {"p6e-gb200.36xlarge"}
    assert len(INSTANCE_TYPES) == len(list(INSTANCE_TYPES)) == 1387


def test_the_table_is_what_its_script_makes() -> None:
    """``python -m tools.instance_types`` after an update of the catalogue, and nothing by hand."""
    assert TABLE.read_text() == write_table(make_table(CATALOGUE))


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        # Graviton, old and new, also where the letter g is not the last or not alone.
        *((name, "arm64") for name in ("a1.medium", "t4g.nano", "g5g.xlarge", "hpc7g.4xlarge", "x2gd.metal")),
        *((name, "arm64") for name in ("im4gn.large", "is4gen.medium", "i8ge.large", "c7gn.large")),
        *((name, "arm64") for name in ("m9g.large", "r8gb.large", "p6e-gb200.36xlarge", "c7gd.metal")),
        # x86, with a g in the name, without a generation, or 32-bit as well.
        *((name, "amd64") for name in ("g4dn.xlarge", "g5.xlarge", "gr6.4xlarge", "u-6tb1.56xlarge")),
        *(
            (name, "amd64")
            for name in ("u7i-12tb.224xlarge", "p4d.24xlarge", "m7i-flex.large", "inf2.xlarge")
        ),
        *((name, "amd64") for name in ("t2.micro", "c1.medium", "m7a.medium", "p6-b200.48xlarge")),
    ],
)
def test_a_name_that_misleads_has_the_right_architecture(name: str, architecture: str) -> None:
    """Patterns on names go wrong with these; the table does not."""
    assert INSTANCE_TYPES[name].architecture == architecture


def test_importing_the_table_reads_nothing() -> None:
    """A command that needs no type does not pay for the table."""
    code = (
        "import archshift.nodes.instance_types as t; assert not t._families.cache_info().currsize;"
        "t.INSTANCE_TYPES['m7g.large']; assert t._families.cache_info().currsize"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "architecture", "vcpu", "memory_mib", "pods"),
    [
        ("m7g.xlarge", "arm64", 4, 16384, 58),
        ("m7i.large", "amd64", 2, 8192, 29),
        ("c6g.2xlarge", "arm64", 8, 16384, 58),
        ("r8g.4xlarge", "arm64", 16, 131072, 234),
        ("c5.4xlarge", "amd64", 16, 32768, 234),
        ("m6a.8xlarge", "amd64", 32, 131072, 234),
        ("t3a.medium", "amd64", 2, 4096, 17),
        ("t4g.large", "arm64", 2, 8192, 35),
    ],
)
def test_types_are_as_aws_lists_them(
    name: str, architecture: str, vcpu: int, memory_mib: int, pods: int
) -> None:
    """A lab node is as large as the real one: https://docs.aws.amazon.com/ec2/latest/instancetypes/."""
    found = INSTANCE_TYPES[name]
    assert (found.name, found.architecture, found.vcpu, found.memory_mib, found.pods) == (
        name,
        architecture,
        vcpu,
        memory_mib,
        pods,
    )


@pytest.mark.parametrize(
    ("name", "millicpu", "mib"),
    [
        # 60 + 10 reserved of two cores; 255 + 11 * 29 + 100 MiB.
        ("m7i.large", 1930, 8192 - 255 - 319 - 100),
        # 60 + 10 + 5 + 5 of four.
        ("m7g.xlarge", 3920, 16384 - 255 - 638 - 100),
        # and 2.5 of each of the other four.
        ("c7g.2xlarge", 7910, 16384 - 255 - 638 - 100),
        ("m6g.4xlarge", 15890, 65536 - 255 - 2574 - 100),
        ("t4g.medium", 1930, 4096 - 255 - 187 - 100),
    ],
)
def test_allocatable_is_what_a_node_of_the_eks_image_reports(name: str, millicpu: int, mib: int) -> None:
    """The figures of ``kubectl describe node`` on EKS, so that a step that fits here fits there."""
    assert INSTANCE_TYPES[name].allocatable_millicpu == millicpu
    assert INSTANCE_TYPES[name].allocatable_memory == mib * 1024 * 1024


@pytest.mark.parametrize(
    ("name", "pods"),
    [
        # Network cards beside the default one carry no pods: 15 * 49 + 2 of 60 interfaces.
        ("p4d.24xlarge", 737),
        ("p5.48xlarge", 100),
        ("t3.micro", 4),
        ("m5.24xlarge", 737),
    ],
)
def test_pods_are_what_the_vpc_cni_serves(name: str, pods: int) -> None:
    """The figures of the CNI's own table for types with several network cards and small ones."""
    assert INSTANCE_TYPES[name].pods == pods


@pytest.mark.parametrize(("name", "pods"), [("m5.large", 29), ("m5.4xlarge", 110), ("m7g.8xlarge", 234)])
def test_eks_caps_the_pods_of_its_nodes(name: str, pods: int) -> None:
    """110 below 30 vCPU and 250 above, whatever the CNI could serve: a plan counts with that."""
    assert INSTANCE_TYPES[name].managed_pods == pods
    assert INSTANCE_TYPES["m5.24xlarge"].managed_pods == 250


def test_every_type_but_the_tiniest_has_room_for_pods() -> None:
    """No formula goes below zero on a type that a node group may name."""
    for name, found in INSTANCE_TYPES.items():
        assert 0 < found.allocatable_millicpu < found.vcpu * 1000, name
        assert found.pods >= 4, name
        # Half a GiB is less than a kubelet reserves on some.
        assert 0 < found.allocatable_memory < found.memory_mib * 1024 * 1024 or found.memory_mib <= 512, name


def test_c5_has_no_8xlarge() -> None:
    """The family goes from 4xlarge to 9xlarge; a type that does not exist is not offered."""
    assert "c5.8xlarge" not in INSTANCE_TYPES
    assert "c6i.8xlarge" in INSTANCE_TYPES


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    """The message names the key, the value and what was probably meant."""
    with pytest.raises(ArchshiftError) as error:
        instance_type("m7g.xlrage", "archshift:node_groups.arm.instance_type")
    message = str(error.value)
    assert message.startswith(
        "archshift:node_groups.arm.instance_type: 'm7g.xlrage' is an unknown instance type; did you mean "
    )
    assert "m7g.xlarge" in message


def test_a_name_like_no_other_gets_no_hint() -> None:
    """No guess is better than a wrong one."""
    with pytest.raises(ArchshiftError) as error:
        instance_type("????", "archshift:node_groups.arm.instance_type")
    assert str(error.value) == ("archshift:node_groups.arm.instance_type: '????' is an unknown instance type")


def test_a_known_name_is_found() -> None:
    assert instance_type("c7g.large", "key").architecture == "arm64"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t3.xlarge", "t4g.xlarge"),
        ("t3a.medium", "t4g.medium"),
        ("t2.large", "t4g.large"),
        ("m5.xlarge", "m8g.xlarge"),
        ("m5a.large", "m8g.large"),
        ("m6i.4xlarge", "m8g.4xlarge"),
        ("m7i-flex.large", "m8g.large"),
        ("m7a.medium", "m8g.medium"),
        ("c5.4xlarge", "c8g.4xlarge"),
        ("c6a.8xlarge", "c8g.8xlarge"),
        ("r5.2xlarge", "r8g.2xlarge"),
        ("m5d.xlarge", "m8gd.xlarge"),
        ("m6id.xlarge", "m8gd.xlarge"),
        ("c5ad.2xlarge", "c8gd.2xlarge"),
        ("c6in.xlarge", "c8gn.xlarge"),
        ("m6in.xlarge", "m8gn.xlarge"),
        ("r5n.large", "r8gn.large"),
        ("r5b.large", "r8gb.large"),
        ("i4i.xlarge", "i8g.xlarge"),
        ("i3en.xlarge", "i8ge.xlarge"),
        ("x8i.xlarge", "x8g.xlarge"),
        ("c7i.metal-48xl", "c8g.metal-48xl"),
        ("m5.24xlarge", "m8g.24xlarge"),
    ],
)
def test_a_twin_is_the_type_people_would_choose(name: str, expected: str) -> None:
    """Same line, same variant, same size, of the newest generation that most regions have."""
    assert twin(INSTANCE_TYPES[name]).name == expected


@pytest.mark.parametrize(
    ("name", "families", "expected"),
    [
        ("m5.xlarge", ["m7g", "c7g", "r7g"], "m7g.xlarge"),
        ("m5.xlarge", ["m6g", "m7g", "m9g"], "m9g.xlarge"),
        ("m6id.xlarge", ["m6gd", "m7gd", "m8g"], "m7gd.xlarge"),
        # A disk that nobody asked for is better than no twin, and worse than one without.
        ("m6i.xlarge", ["m8gd", "m6g"], "m6g.xlarge"),
        ("m6i.xlarge", ["m8gd"], "m8gd.xlarge"),
        ("c6in.xlarge", ["c7gn", "c7g"], "c7gn.xlarge"),
        # 96 vCPU came with the eighth generation.
        ("m5.16xlarge", ["m7g", "m8g"], "m8g.16xlarge"),
        ("m5.16xlarge", ["m7g"], "m7g.16xlarge"),
    ],
)
def test_a_twin_comes_from_the_configured_families(name: str, families: list[str], expected: str) -> None:
    """Who stays with the generation in the region's reservation gets that one."""
    assert twin(INSTANCE_TYPES[name], families).name == expected


@pytest.mark.parametrize(
    ("name", "families", "sentence"),
    [
        (
            "c5.9xlarge",
            None,
            "c5.9xlarge (36 vCPU, 72 GiB) has no Graviton twin: no Graviton type has that size; the nearest "
            "are c8g.8xlarge (32 vCPU, 64 GiB) and c8g.12xlarge (48 vCPU, 96 GiB)",
        ),
        (
            "m6i.32xlarge",
            ["m7g"],
            "m6i.32xlarge (128 vCPU, 512 GiB) has no Graviton twin: no Graviton type has that size; the "
            "nearest are m7g.16xlarge (64 vCPU, 256 GiB)",
        ),
        (
            "m5.24xlarge",
            ["m7g"],
            "m5.24xlarge (96 vCPU, 384 GiB) has no Graviton twin in the families to choose from; "
            "m8g.24xlarge or m8gb.24xlarge or m8gd.24xlarge or m8gn.24xlarge or m9g.24xlarge or "
            "m9gd.24xlarge would fit",
        ),
        (
            "m5.xlarge",
            [],
            "m5.xlarge (4 vCPU, 16 GiB) has no Graviton twin in the families to choose from; m6g.xlarge or "
            "m6gd.xlarge or m7g.xlarge or m7gd.xlarge or m8g.xlarge or m8gb.xlarge or m8gd.xlarge or "
            "m8gn.xlarge or m9g.xlarge or m9gd.xlarge would fit",
        ),
        (
            "p4d.24xlarge",
            None,
            "p4d.24xlarge (96 vCPU, 1152 GiB) has no Graviton twin: no Graviton family replaces p4d "
            "and its special hardware",
        ),
        (
            "g5.xlarge",
            None,
            "g5.xlarge (4 vCPU, 16 GiB) has no Graviton twin: no Graviton family replaces g5 "
            "and its special hardware",
        ),
        (
            "u-6tb1.56xlarge",
            None,
            "u-6tb1.56xlarge (224 vCPU, 6144 GiB) has no Graviton twin: no Graviton family replaces "
            "u-6tb1 and its special hardware",
        ),
        (
            "m5dn.xlarge",
            None,
            "m5dn.xlarge (4 vCPU, 16 GiB) has no Graviton twin: no Graviton family of the line m has a local "
            "disk and network bandwidth",
        ),
        (
            "m7g.xlarge",
            None,
            "m7g.xlarge (4 vCPU, 16 GiB) has no Graviton twin: it is a Graviton type itself",
        ),
    ],
)
def test_where_there_is_no_twin_the_sentence_says_why(
    name: str, families: list[str] | None, sentence: str
) -> None:
    """So that the reader can choose a type, or leave the group on x86."""
    with pytest.raises(ArchshiftError) as error:
        twin(INSTANCE_TYPES[name], families)
    assert str(error.value) == sentence


@given(st.sampled_from(X86), st.none() | st.sets(st.sampled_from(graviton_families())))
def test_a_twin_never_has_less(name: str, families: set[str] | None) -> None:
    """Whatever the choice: Graviton, equal vCPU and memory, bare metal for bare metal, a disk for a disk."""
    kind = INSTANCE_TYPES[name]
    try:
        found = twin(kind, families)
    except ArchshiftError:
        return
    assert found.architecture == "arm64"
    assert (found.vcpu, found.memory_mib) == (kind.vcpu, kind.memory_mib)
    assert families is None or found.family in families
    x86, graviton = CATALOGUE[name], CATALOGUE[found.name]
    assert x86["BareMetal"] == graviton["BareMetal"]
    assert "GpuInfo" not in x86
    assert graviton["InstanceStorageSupported"] or not x86["InstanceStorageSupported"]


@given(st.sampled_from(X86), st.sampled_from(graviton_families()))
def test_more_families_to_choose_from_never_lose_the_twin(name: str, more: str) -> None:
    """A longer list gives a twin at least as new, or the same."""
    kind = INSTANCE_TYPES[name]
    families = set(graviton_families()) - {more}
    try:
        before = twin(kind, families)
    except ArchshiftError:
        return
    after = twin(kind, families | {more})
    assert after == before or after.family == more


def bandwidth(entry: dict[str, Any]) -> float:
    """The Gbit/s that a type has at any time, all its network cards together."""
    return float(sum(card["BaselineBandwidthInGbps"] for card in entry["NetworkInfo"]["NetworkCards"]))


def test_a_twin_has_the_network_of_its_x86_type() -> None:
    """Only the largest x86 types of the eighth generation have more, as ``twin`` says."""
    less = set()
    for name in X86:
        try:
            found = twin(INSTANCE_TYPES[name])
        except ArchshiftError:
            continue
        have, need = bandwidth(CATALOGUE[found.name]), bandwidth(CATALOGUE[name])
        if have < 0.95 * need:
            assert (INSTANCE_TYPES[name].vcpu, need, have) == (192, 75, 50), name
            less.add(INSTANCE_TYPES[name].family)
    assert less == {f"{line}8{variant}" for line in "cmr" for variant in ("a", "i", "id")} | {"x8i"}
