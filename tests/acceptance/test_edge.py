"""The edge: real notifications are accepted, wrong ones are rejected with the field and kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.acceptance.product import Product

GOOD: dict[str, Any] = {
    "ver": "1.0",
    "id": "2256A988-0B26-4E2B-820A-8A7B9E8E2A61",
    "product": "ECS",
    "resourceId": "acs:ecs:cn-hangzhou:169070123456:instance/i-2zehcagr3vt06iyir7hc",
    "level": "INFO",
    "name": "Instance:StateChange",
    "userId": "169070123456",
    "eventTime": "20190409T121826.922+0800",
    "regionId": "cn-hangzhou",
    "content": {
        "resourceId": "i-2zehcagr3vt06iyir7hc",
        "resourceType": "ALIYUN::ECS::Instance",
        "state": "Running",
    },
}
ACCEPTED: dict[str, dict[str, Any]] = {
    "extra fields": {"instanceName": "web", "isCloudMonitor": True},
    "content as text": {"content": json.dumps(GOOD["content"])},
    "times to the minute": {
        "name": "Instance:SystemMaintenance.Reboot:Scheduled",
        "level": "CRITICAL",
        "content": {
            "instanceId": "i-1",
            "eventType": "SystemMaintenance.Reboot",
            "notBefore": "2019-04-09T12:18Z",
        },
    },
    "an unknown name": {"name": "Instance:NotInTheCatalogue:Executing"},
    "another product": {
        "product": "RDS",
        "name": "Instance:Failover",
        "resourceId": "acs:rds:cn-hangzhou:1:dbinstance/rm-1",
    },
    "a product with a topic": {
        "product": "SLB",
        "name": "Listener:Down",
        "resourceId": "acs:slb:cn-hangzhou:1:listener/lb-1",
    },
    "another offset": {"eventTime": "20190409T041826.922+0000"},
    "a resource elsewhere": {"resourceId": "acs:ecs:cn-beijing:169070123456:instance/i-1"},
}
REJECTED: dict[str, dict[str, Any]] = {
    "level": {"level": "FATAL"},
    "name": {"name": ""},
    "eventTime": {"eventTime": "2019-04-09T12:18:26Z"},
    "resourceId": {"resourceId": "i-1"},
    "content": {"content": [1]},
    "userId": {"userId": 169070123456},
    "product": {"product": None},
    "ver": {"ver": 1},
}


def test_real_envelopes_are_accepted_and_mistakes_are_rejected_with_their_field(tmp_path: Path) -> None:
    product = Product(tmp_path / "home", HELIOGRAPH_EVENTS_TOPICS="events.slb.*")
    taken = [json.dumps({**GOOD, **change}).encode() for change in ACCEPTED.values()]
    (counts,) = product.rows("emit", "--file", "-", feed=b"\n".join(taken))
    assert counts == {"accepted": len(taken), "rejected": 0}
    refused = {field: json.dumps({**GOOD, **change}) for field, change in REJECTED.items()}
    refused["notification"] = "nonsense"
    done = product.call("emit", "--file", "-", "--json", feed="\n".join(refused.values()).encode())
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"accepted": 0, "rejected": len(refused)}
    kept = {row["value"]: row["headers"]["reason"] for row in product.rows("tail", "rejects")}
    for field, value in refused.items():
        assert kept[value].startswith(f"{field}: "), f"{field}: {kept[value]}"
        assert kept[value] in done.stderr.decode()
    topics = Counter({row["topic"]: row["records"] for row in product.rows("topics") if row["records"]})
    assert topics == {
        "events.ecs.instance": 6,
        "events.other": 1,
        "events.slb.listener": 1,
        "rejects": len(refused),
    }
    product.until_idle()
    archived = Counter(
        row["value"].encode() for row in product.rows("archive", "read") if row["topic"] != "rejects"
    )
    assert archived >= Counter(taken)
