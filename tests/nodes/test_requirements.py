"""Requirements on machines: which types they permit, and what they become for Graviton."""

import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.nodes.requirements import Requirement, matching_types, twin_requirements

ARCH = "kubernetes.io/arch"
TYPE = "node.kubernetes.io/instance-type"
DOMAINS = ("karpenter.k8s.aws", "eks.amazonaws.com", "karpenter.kwok.sh")
EC2 = DOMAINS[0]


def on(fact: str, operator: str, *values: str, domain: str = EC2) -> Requirement:
    """A requirement on a fact about the machine."""
    return Requirement(f"{domain}/instance-{fact}", operator, values)


def names(*requirements: Requirement, domain: str = EC2) -> set[str]:
    """The types that meet requirements."""
    return {kind.name for kind in matching_types(requirements, domain)}


@pytest.mark.parametrize(
    ("operator", "values", "permitted", "refused"),
    [
        ("In", ("5", "7"), ["5", "7"], ["6", None]),
        ("NotIn", ("5",), ["6", None], ["5"]),
        ("Exists", (), ["5"], [None]),
        ("DoesNotExist", (), [None], ["5"]),
        ("Gt", ("5",), ["6", "10"], ["5", "x", None]),
        ("Gte", ("5",), ["5", "10"], ["4", None]),
        ("Lt", ("10",), ["9", "2"], ["10", None]),
        ("Lte", ("10",), ["10"], ["11"]),
        ("Near", ("5",), [], ["5"]),
    ],
)
def test_each_operator_means_what_karpenter_means(
    operator: str, values: tuple[str, ...], permitted: list[str | None], refused: list[str | None]
) -> None:
    """Numbers are compared as numbers, and a missing label meets only what excludes."""
    one = Requirement("label", operator, values)
    assert [value for value in permitted if not one.permits(value)] == []
    assert [value for value in refused if one.permits(value)] == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_categories_generations_and_sizes_select_types_in_every_domain(domain: str) -> None:
    """The labels of Karpenter, of EKS Auto Mode and of the lab differ in their domain alone."""
    found = names(
        on("category", "In", "c", "m", domain=domain),
        on("generation", "Gt", "6", domain=domain),
        on("cpu", "Gt", "3", domain=domain),
        on("cpu", "Lt", "9", domain=domain),
        on("size", "NotIn", "2xlarge", domain=domain),
        Requirement(ARCH, "In", ("amd64",)),
        Requirement("topology.kubernetes.io/zone", "In", ("eu-west-1a",)),
        Requirement("team", "In", ("shop",)),
        domain=domain,
    )
    assert found >= {"c7i.xlarge", "m7i.xlarge", "m8i.xlarge", "m7a.xlarge", "m7i-flex.xlarge"}
    assert not found & {"m6i.xlarge", "m7i.2xlarge", "r7i.xlarge", "m7g.xlarge", "m7i.large"}
    assert all(INSTANCE_TYPES[name].vcpu == 4 for name in found)


def test_a_fact_that_no_table_has_excludes_no_type_that_may_have_it() -> None:
    """A local disk's size is unknown for families that have one; the others certainly lack the label."""
    found = names(on("local-nvme", "Gt", "100"))
    assert {"m6id.large", "i4i.large"} <= found
    assert not found & {"m6i.large", "c7i.large"}


@pytest.mark.parametrize(
    ("x86", "there", "not_there"),
    [
        ([], {"m8g.large", "t4g.nano"}, {"m7i.large"}),
        (
            [on("category", "In", "c", "m", "r"), on("generation", "Gt", "4")],
            {"c6g.large", "r8g.large"},
            {"t4g.large"},
        ),
        # The only Graviton t is of the fourth generation.
        (
            [on("category", "In", "m", "t"), on("generation", "Gt", "4")],
            {"t4g.large", "m6g.large"},
            {"c6g.large"},
        ),
        ([on("category", "In", "t"), on("generation", "In", "3")], {"t4g.large"}, {"m6g.large"}),
        ([on("category", "In", "m"), on("generation", "Lt", "6")], {"m6g.large"}, {"m7g.large"}),
        ([on("family", "In", "m6i", "c6i")], {"m8g.large", "c8g.large"}, {"r8g.large", "m7g.large"}),
        ([Requirement(TYPE, "In", ("m6i.xlarge", "c5.large"))], {"m8g.xlarge", "c8g.large"}, {"m8g.large"}),
        # Its owner chose Graviton types already.
        ([on("family", "In", "m6i", "m6g")], {"m6g.large"}, {"m8g.large"}),
        ([on("cpu-manufacturer", "In", "intel"), on("category", "In", "m")], {"m8g.large"}, {"m7i.large"}),
        (
            [on("size", "NotIn", "large"), on("cpu", "Lt", "9"), on("category", "In", "r")],
            {"r8g.xlarge"},
            {"r8g.large"},
        ),
    ],
)
def test_a_twin_has_the_machines_that_stand_in_for_those_of_its_original(
    x86: list[Requirement], there: set[str], not_there: set[str]
) -> None:
    """The same categories, sizes and vCPUs; types, families and generations that Graviton has."""
    twins = names(*twin_requirements([Requirement(ARCH, "In", ("amd64",)), *x86], EC2))
    assert twins >= there
    assert not twins & not_there
    assert {INSTANCE_TYPES[name].architecture for name in twins} == {"arm64"}


def test_a_twin_keeps_to_the_families_that_the_stack_names() -> None:
    """With categories too, which name none."""
    twins = names(*twin_requirements([on("category", "In", "c", "m")], EC2, ("m7g",)))
    assert {name.partition(".")[0] for name in twins} == {"m7g"}


def test_what_has_no_graviton_twin_is_said_with_its_requirements() -> None:
    """No Graviton family has a category p that stands in for p5, or an x86 hypervisor of old."""
    with pytest.raises(ArchshiftError) as error:
        twin_requirements([on("category", "In", "z"), Requirement(TYPE, "NotIn", ("z1d.metal",))], EC2)
    assert str(error.value) == (
        "no Graviton type meets its requirements (instance-category In z, instance-type NotIn z1d.metal)"
    )
