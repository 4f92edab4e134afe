"""What may be deployed: what is recorded, and which configurations no gate can judge."""

import pytest

from archshift.common.errors import ArchshiftError
from archshift.ramp.deployment import (
    COMMIT,
    DIGEST,
    Configured,
    Deployed,
    Drift,
    Update,
    check_digest,
    commit_of,
    is_higher,
    judge_drift,
    read_state,
    why_no_step,
)

SHA = "0123456789abcdef0123456789abcdef01234567"
HALF = Update(ratio=0.5, commit=SHA)


def state(outputs: dict[str, object], *tried: dict[str, object]) -> Deployed:
    resources = [{"type": "archshift:index:WorkloadPatches", "outputs": one} for one in tried]
    return read_state([{"type": "pulumi:pulumi:Stack", "outputs": outputs}, {"type": "x"}, None, *resources])


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        ({}, None),
        ({"arm_ratio": 0.5}, Update(ratio=0.5)),
        ({"arm_ratio": "0.5", "commit": SHA}, HALF),
        ({"arm_ratio": 0.5, "commit": "main"}, Update(ratio=0.5)),
        ({"arm_ratio": 0.5, "commit": ["x"]}, Update(ratio=0.5)),
        ({"commit": SHA}, None),
    ],
)
def test_what_the_state_says(outputs: dict[str, object], wanted: Update | None) -> None:
    assert state(outputs) == Deployed(last=wanted)


@pytest.mark.parametrize("ratio", [{"ciphertext": "v1:x"}, True, None, 2, "nan", [0.5]])
def test_a_ratio_that_is_none_is_no_deployment_at_zero(ratio: object) -> None:
    """A secret output, for example: the gate must not be left out because of it."""
    with pytest.raises(ArchshiftError, match=r"output arm_ratio, .* is not a number from"):
        state({"arm_ratio": ratio})
    with pytest.raises(ArchshiftError, match=r"output ratio, .* is not a number from"):
        state({"arm_ratio": 0.5}, {"ratio": ratio})


@pytest.mark.parametrize(
    ("last", "tried", "failed"),
    [
        ({"arm_ratio": 0.5, "commit": SHA}, {"ratio": 0.5, "commit": SHA}, None),
        # Earlier versions recorded no commit of what they tried.
        ({"arm_ratio": 0.5, "commit": SHA}, {"ratio": 0.5}, None),
        ({"arm_ratio": 0.5, "commit": SHA}, {"ratio": 0.8}, Update(ratio=0.8, commit=SHA)),
        # By hand, and well.
        ({"arm_ratio": 0.5}, {"ratio": 0.5, "commit": ""}, None),
        ({"arm_ratio": 0.5, "commit": SHA}, {"ratio": 0.8, "commit": SHA}, Update(ratio=0.8, commit=SHA)),
        # By hand, at the same ratio: what it moved is not known.
        ({"arm_ratio": 0.5, "commit": SHA}, {"ratio": 0.5, "commit": ""}, Update(ratio=0.5)),
        ({}, {"ratio": 0.2, "commit": SHA}, Update(ratio=0.2, commit=SHA)),
    ],
)
def test_an_update_that_failed_is_no_update_that_never_was(
    last: dict[str, object], tried: dict[str, object], failed: Update | None
) -> None:
    """The engine keeps the outputs of the update before it, but pods may have moved."""
    deployed = state(last, tried)
    assert deployed.failed == failed
    assert deployed.base == (deployed.last or failed)
    assert deployed.updates == tuple(filter(None, (deployed.last, failed)))


@pytest.mark.parametrize(
    ("outputs", "gated"), [({"required": True}, True), ({"required": False}, False), ({}, True)]
)
def test_a_gate_in_the_state_is_one_unless_it_says_that_it_is_not(
    outputs: dict[str, object], gated: bool
) -> None:
    resource = {"type": "archshift:index:Gate", "outputs": outputs}
    assert read_state([resource]).gated is gated


@pytest.mark.parametrize(
    ("deployed", "new", "up"),
    [(0.5, 0.8, True), (0.5, 0.5, False), (0.5, 0.5000000001, False), (0.5, 0.2, False), (0.0, 0.8, True)],
)
def test_only_a_larger_ratio_is_a_step_up(deployed: float, new: float, up: bool) -> None:
    assert is_higher(new, deployed) is up


def test_the_old_and_the_new_configuration_agree_about_the_gate() -> None:
    """Else nothing, or something else, would have measured what is deployed."""
    gated, free = Configured(ratio=0.5, gated=True), Configured(ratio=0.5, gated=False)
    up, up_free = Configured(ratio=0.8, gated=True), Configured(ratio=0.8, gated=False)
    assert why_no_step(HALF, gated, up) == ""
    assert why_no_step(HALF, free, up_free) == ""
    assert why_no_step(HALF, gated, up_free) == (
        "it removes archshift:gate and takes a step up; restore archshift:gate, or first deploy only its "
        "removal, at arm_ratio 0.5"
    )
    assert why_no_step(HALF, free, up).startswith("it adds archshift:gate and takes a step up")
    assert why_no_step(HALF, None, up).startswith(
        "nobody recorded from which commit arm_ratio 0.5 was deployed"
    )
    other = Configured(ratio=0.2, gated=True)
    assert why_no_step(HALF, other, up) == (
        "arm_ratio 0.5 is deployed, but its commit 0123456789ab has 0.2; check out the commit that is "
        "deployed and run ARCHSHIFT_COMMIT=$(git rev-parse HEAD) pulumi up"
    )


def test_the_program_refuses_another_configuration_than_the_checked_one() -> None:
    """Two spellings of a key, or PULUMI_CONFIG, give two processes two configurations."""
    check_digest({}, "a")
    check_digest({DIGEST: "a"}, "a")
    with pytest.raises(ArchshiftError, match="another configuration than archshift deployment check"):
        check_digest({DIGEST: "a"}, "b")


def test_only_a_whole_hash_is_recorded() -> None:
    assert commit_of({}) == ""
    assert commit_of({COMMIT: SHA}) == SHA
    for wrong in ("main", SHA[:12], SHA.upper(), f"{SHA}\n"):
        with pytest.raises(ArchshiftError, match="is not the full hash of a commit"):
            commit_of({COMMIT: wrong})


@pytest.mark.parametrize(
    ("codes", "wanted"),
    [
        ((3, None, None), Drift(answer="later")),
        ((0, 0, 0), Drift(answer="no")),
        ((0, 7, 0), Drift(answer="yes", changed=True, maybe_scaled=True)),
        ((0, 5, 0), Drift(answer="yes", changed=True)),
        ((0, 0, 3), Drift(answer="yes", misplaced=True, maybe_scaled=True)),
        ((0, 7, 5), Drift(answer="yes", changed=True, misplaced=True, trouble=True)),
        ((1, None, None), Drift(failed="archshift deployment", code=1)),
        ((0, 1, 0), Drift(failed="pulumi preview", code=1)),
        ((0, 255, 3), Drift(failed="pulumi preview", code=255)),
        ((0, 7, 1), Drift(failed="archshift status", code=1)),
        ((0, None, 0), Drift(failed="pulumi preview", code=-1)),
        ((0, 0, 7), Drift(failed="archshift status", code=7)),
    ],
)
def test_what_the_exit_codes_say_about_drift(
    codes: tuple[int, int | None, int | None], wanted: Drift
) -> None:
    """A command that failed is neither drift nor its end."""
    assert judge_drift(*codes) == wanted
