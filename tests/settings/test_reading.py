"""How values become settings: each type of value once, and what any value at any key leads to."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, structs

from archshift.common.errors import ArchshiftError, SettingsError
from archshift.settings.keys import NODE_GROUP_MODELS, StackModel
from archshift.settings.reading import InvalidValueError, Model, base_of, detail, models_in, read, says, use
from archshift.settings.stack import load
from archshift.settings.times import Length, Moment, ZonedTime, ZoneName
from archshift.settings.values import Amount, Arn, Names, Quantity, Ratio, Seconds, Subnets, Text, WorkloadKey
from tests.properties import examples


class Half(Amount):
    """A number up to a half."""

    least: ClassVar = Decimal(0)
    most: ClassVar = Decimal("0.5")


class Inner(Model, frozen=True, kw_only=True):
    """A map in a map."""

    flag: bool = False
    below: Annotated[int, Meta(ge=0)] = 0
    above: int = 9

    def __post_init__(self) -> None:
        if self.below > self.above:
            raise InvalidValueError("below", f"{self.below} is above {self.above}", "lower it")


class Outer(Model, frozen=True, kw_only=True):
    """A map with every kind of entry."""

    needed: Annotated[Text, says("Needed.", "x")]
    new: Literal["a", "b", "c"] = "a"
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    named: dict[Annotated[str, Meta(pattern=r"\A[a-z]+\Z", extra=use("a word"))], bool | Inner] = {}  # noqa: RUF012


RATIO = "a number from 0.0 to 1.0"
MAP = "a map, written as YAML below the key"
TEXT = "text in quotes that is not empty"
QUANTITY = "a quantity such as 64 or 256Gi"
WORKLOAD = "namespace/Kind/name with a kind such as Deployment, StatefulSet, DaemonSet, CronJob"
LENGTH = "a time from 0m to 366d such as 7d"
ZONE = "a time zone such as Europe/Berlin or UTC"
MOMENT = 'a date or a time from 2000 to 2199 in quotes, such as "2026-03-02" or "2026-03-02T18:00:00Z"'
ZONED = 'a time from 2000 to 2199 with its zone in quotes, such as "2026-03-02T18:00:00Z"'
ARN = "arn:aws:iam::123456789012:role/name"


@pytest.mark.parametrize(
    ("kind", "wanted", "valid", "invalid"),
    [
        (Ratio, RATIO, [0, 1, 0.5, "0.5", ".5"], [-0.1, 1.1, "x", "nan", True, None, [0.5], 10**400]),
        (Half, "a number from 0 to 0.5", [0, "0.5", 0.1], [0.51, "inf", "NaN", False, {}]),
        (Quantity, QUANTITY, [64, "64", "1.5Gi", "250m"], [-1, "1 TB", "", True, None, "9" * 400]),
        (Text, TEXT, ["x", " x "], ["", "  ", 5, None]),
        (Names, "a list of names", [[], ["a"]], ["a", {"a": 1}, None]),
        (Seconds, "a whole number of seconds, 1 or more", [1, 300], [0, -1, 1.5, "3", True]),
        (Arn, f"an ARN such as {ARN}", [ARN], ["role/name", "arn:aws", "", 5]),
        (Subnets, "a list of one or more IDs of subnets", [["subnet-0a"]], [[], "subnet-0a"]),
        (
            *(WorkloadKey, WORKLOAD, ["shop/Deployment/cart"]),
            [
                "shop/cart",
                "shop/Deployment/",
                "a/job/b",
                "a/My-Kind/b",
                "a/Deployment/b/c",
                "a/Deployment/b\n",
                5,
            ],
        ),
        (Length, LENGTH, ["7d", "0m", "52w", "12h"], ["53w", "-1d", "7 d", "7D", 7, None]),
        (ZoneName, ZONE, ["UTC", "Europe/Berlin"], ["Berlin", "Europe", "", "/etc", "../UTC", 1]),
        (
            *(Moment, MOMENT, ["2026-03-02", "2026-03-02T18:00", "2026-03-02T18:00:00Z"]),
            ["soon", "1999-12-31", "2200-01-01", 20260302, None],
        ),
        (
            *(ZonedTime, ZONED, ["2026-03-02T18:00:00Z", "2026-03-02T18:00+01:00"]),
            ["2026-03-02", "2026-03-02T18:00:00", "18:00Z", 5],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_type_says_which_values_are_valid(
    kind: Any, wanted: str, valid: list[Any], invalid: list[Any]
) -> None:
    """One sentence with the key, the value and what to use instead."""
    for value in valid:
        assert read(kind, "k", value) is not None
    for value in invalid:
        with pytest.raises(SettingsError) as error:
            read(kind, "k", value)
        assert str(error.value).startswith("k: ")
        assert str(error.value).endswith(f" is invalid; use {wanted}")


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        ([], ["k: [] is invalid; use a map, written as YAML below the key"]),
        ({}, ["k.needed is missing; add text in quotes that is not empty"]),
        ({"needed": "x", "nw": 1}, ["k.nw is not a setting; there are: inner, many, named, needed, new"]),
        ({"needed": "x", "new": "d"}, ["k.new: 'd' is invalid; use a, b or c"]),
        ({"needed": "x", "inner": {"below": 10}}, ["k.inner.below: 10 is above 9; lower it"]),
        (
            {"needed": 1, "inner": 2, "many": {}},
            [
                "k.needed: 1 is invalid; use text in quotes that is not empty",
                "k.inner: 2 is invalid; use a map, written as YAML below the key",
                "k.many: {} is invalid; use a list",
            ],
        ),
        (
            {"needed": "x", "many": [{}, {"flag": 1, "below": -1}, "x", {"below": 10}]},
            [
                "k.many[1].flag: 1 is invalid; use true or false",
                "k.many[1].below: -1 is invalid; use a whole number, 0 or more",
                "k.many[2]: 'x' is invalid; use a map, written as YAML below the key",
                "k.many[3].below: 10 is above 9; lower it",
            ],
        ),
        (
            {"needed": "x", "named": {"A": True, "a": "yes", "b": {"flag": None}, 5: True, "a\nb": {"c": 1}}},
            [
                "k.named: 'A' is invalid; use a word",
                f"k.named.a: 'yes' is invalid; use true or false or {MAP}",
                "k.named.b.flag: None is invalid; use true or false",
                "k.named: 5 is invalid; use a word",
                "k.named: 'a\\nb' is invalid; use a word",
                "k.named.'a\\nb'.c is not a setting; there are: above, below, flag",
            ],
        ),
    ],
)
def test_every_part_that_is_invalid_has_a_sentence(value: Any, sentences: list[str]) -> None:
    """In the order of the configuration, at whatever depth."""
    with pytest.raises(SettingsError) as error:
        read(Outer, "k", value)
    assert [str(each) for each in error.value.errors] == sentences


def test_a_long_value_is_shortened() -> None:
    """A map of a hundred groups does not bury what is wrong."""
    with pytest.raises(SettingsError) as error:
        read(Names, "k", {f"name-{number}": "x" * 500 for number in range(500)})
    assert len(str(error.value)) < 2500
    assert "\n" not in str(error.value)


# --- properties -----------------------------------------------------------------------------


def keys() -> Iterator[tuple[str, Any]]:
    """Every top-level key with an example; node groups have one for each kind."""
    for field in structs.fields(StackModel):
        yield field.encode_name, detail(field.type, "example")
    for model in NODE_GROUP_MODELS:
        yield "node_groups", {"a": examples_of(model), "b": {"twin_of": "a"}}


def examples_of(model: type[Model]) -> dict[str, Any]:
    """Every key of a model with its example, at every depth."""
    found = {}
    for field in structs.fields(model):
        inner = dict(models_in(field.type))
        example = detail(field.type, "example")
        if "" in inner and isinstance(example, dict):
            example = examples_of(inner[""])
        found[field.encode_name] = example
    return found


WORDS = ["", "0.5", "7d", "m7g.large", "2026-03-02", "2026-03-02T18:00:00Z", "x86", "NaN", "\n"]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS)
)
NAMES = st.text(max_size=8) | st.sampled_from(["twin_of", "shop/Deployment/cart", "latency_p95", "a\nb"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def refusals(config: dict[str, str]) -> tuple[ArchshiftError, ...]:
    """The errors of a configuration; none where it gives settings."""
    try:
        load("dev", config, {})
    except ArchshiftError as error:
        return error.errors
    return ()


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """A value with any JSON somewhere in it."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)) | NAMES)
        return {**value, key: draw(changed(value.get(key)))}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [draw(changed(value[0])), *value[1:]]
    return draw(JSON | st.just(value))


KEYS = list(keys())


@examples
@given(st.data())
def test_any_value_at_any_key_gives_settings_or_sentences(data: st.DataObject) -> None:
    """Never a traceback, and never a sentence of two lines or without its key."""
    config = {"archshift:arm_ratio": "0.2"}
    if data.draw(st.booleans()):
        config["archshift:cluster"] = json.dumps({"name": "prod", "subnets": ["subnet-0a", "subnet-0b"]})
    config["archshift:platform"] = data.draw(st.sampled_from(["eks", "lab"]))
    config["archshift:provisioner"] = data.draw(st.sampled_from(["managed", "karpenter", "auto-mode"]))
    for key, example in data.draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)):
        value = data.draw(changed(example))
        config[f"archshift:{key}"] = value if isinstance(value, str) else json.dumps(value)
    for error in refusals(config):
        assert "\n" not in str(error)
        assert str(error).startswith("archshift:")
        assert error.problem


@examples
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_at_any_key_gives_settings_or_sentences(key: str, text: str) -> None:
    """Also where the engine hands over what is no JSON, and a key that nobody knows."""
    for name in (key, *StackModel.__struct_fields__):
        for error in refusals({"archshift:arm_ratio": "0.2", f"archshift:{name}": text}):
            assert "\n" not in str(error)


def declared() -> Iterator[tuple[str, structs.FieldInfo]]:
    """Every key of every model, by its path."""
    todo: list[tuple[str, type[Model]]] = [("archshift:", StackModel)]
    todo += [(f"archshift:node_groups.{model.__name__}.", model) for model in NODE_GROUP_MODELS]
    while todo:
        prefix, model = todo.pop()
        for field in structs.fields(model):
            path = f"{prefix}{field.encode_name}"
            yield path, field
            todo += [(f"{path}{where}.", inner) for where, inner in models_in(field.type)]


@pytest.mark.parametrize(("path", "field"), [pytest.param(*key, id=key[0]) for key in declared()])
def test_every_key_has_a_description_and_a_valid_example(path: str, field: structs.FieldInfo) -> None:
    """docs/settings.md shows no example that archshift refuses, and none that only repeats the default."""
    assert detail(field.type, "description").endswith((".", ").")), path
    example = detail(field.type, "example")
    assert example is not None
    value = read(field.type, path, example)
    if path != "archshift:monitoring.dashboard_labels":
        assert field.required or value != field.default, path
    assert base_of(field.type) is not Any
