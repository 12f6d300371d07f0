"""Resource names (ARNs) of notifications: parsing and building."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import arn
from schemas.errors import InvalidNotification

PART = st.text(st.characters(exclude_characters=":/", exclude_categories=("Z", "C")), min_size=1, max_size=20)


def test_a_published_name_is_split_into_its_parts() -> None:
    parsed = arn.parse("acs:ecs:cn-hangzhou:169070********30:instance/i-bp1ecr********5go2go")
    assert parsed == arn.Arn("ecs", "cn-hangzhou", "169070********30", "instance", "i-bp1ecr********5go2go")


@given(PART, PART, PART, PART, PART)
def test_parsing_a_built_name_returns_its_parts(
    service: str, region: str, user: str, kind: str, identity: str
) -> None:
    built = arn.Arn(service, region, user, kind, identity)
    assert arn.parse(str(built)) == built


@pytest.mark.parametrize("identity", ["<resource-id>", "{instanceId}", "a/b", "é"])
def test_any_characters_are_accepted_in_an_id(identity: str) -> None:
    assert arn.parse(f"acs:rds:cn-hangzhou:1:dbinstance/{identity}").id == identity


@pytest.mark.parametrize(
    "text",
    [
        "",
        "i-1",
        "acs:ecs:cn-hangzhou:1:instance",
        "acs:ecs:cn-hangzhou:1:instance/",
        "acs:ecs:cn-hangzhou:1:/i-1",
        "acs:ecs:cn-hangzhou:instance/i-1",
        "acs:ecs:cn-hangzhou:1:x:instance/i-1",
        "acs:ecs::1:instance/i-1",
        "aws:ecs:cn-hangzhou:1:instance/i-1",
        "acs:ecs:cn-hangzhou:1:instance/i-1\n",
        "acs:ecs:cn-hangzhou:1:instance/i 1",
        "acs:ecs:cn-hangzhou:1:instance/" + "i" * 512,
    ],
)
def test_other_shapes_are_refused_with_the_field_resourceid(text: str) -> None:
    with pytest.raises(InvalidNotification, match=r"^resourceId: ") as refused:
        arn.parse(text)
    assert refused.value.field == "resourceId"


@pytest.mark.parametrize("resource_type", ["NetworkInterface", "eni"])
def test_the_type_of_a_network_interface_is_written_eni(resource_type: str) -> None:
    built = arn.build(resource_type, "eni-1", region="cn-beijing", user="1")
    assert built == "acs:ecs:cn-beijing:1:eni/eni-1"


def test_building_an_invalid_resource_name_is_refused() -> None:
    with pytest.raises(InvalidNotification):
        arn.build("Instance", "i-1", region="", user="1")
