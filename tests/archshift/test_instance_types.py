"""Instance types: architecture, size and what pods can use of it."""

import pytest

from archshift.errors import ArchshiftError
from archshift.instance_types import INSTANCE_TYPES, instance_type


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


def test_a_family_name_ends_in_g_where_it_is_graviton() -> None:
    """The table agrees with AWS's naming for every type in it."""
    for name, found in INSTANCE_TYPES.items():
        graviton = name.partition(".")[0].endswith("g")
        assert (found.architecture == "arm64") is graviton, name


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
        "archshift:node_groups.arm.instance_type: 'm7g.xlrage' is not an instance type archshift knows; "
        "did you mean "
    )
    assert "m7g.xlarge" in message


def test_a_name_like_no_other_gets_no_hint() -> None:
    """No guess is better than a wrong one."""
    with pytest.raises(ArchshiftError) as error:
        instance_type("????", "archshift:node_groups.arm.instance_type")
    assert str(error.value) == (
        "archshift:node_groups.arm.instance_type: '????' is not an instance type archshift knows"
    )


def test_a_known_name_is_found() -> None:
    """The usual case."""
    assert instance_type("c7g.large", "key").architecture == "arm64"
