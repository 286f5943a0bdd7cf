"""What the README shows a receiver is what it gets, and verifies as the README says."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import ClassVar

import pytest
from standardwebhooks import webhooks

README = Path(__file__).parents[2] / "README.md"
PART = re.compile(r"<!-- The receiver: .*? -->(.*)<!-- The receiver ends. -->", re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Then(datetime):
    """A clock that stands still."""

    moment: ClassVar[datetime]

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        assert tz is not None
        return cls.moment


def test_the_webhook_of_the_readme_verifies_by_the_code_of_the_readme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = PART.search(README.read_text("utf-8"))
    assert part
    (_, request), (_, code) = BLOCK.findall(part[1])
    head, _, body = request.removesuffix("\n").partition("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert [*json.loads(body)] == ["event_id", "event_type", "timestamp", "resource", "payload"]
    # Verified as if it had just come: what is older than five minutes is refused.
    Then.moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    monkeypatch.setattr(webhooks, "datetime", Then)
    exec(code, {"body": body, "headers": headers})  # noqa: S102 - the code is ours
    headers["webhook-id"] = "another"
    with pytest.raises(webhooks.WebhookVerificationError, match="No matching signature"):
        exec(code, {"body": body, "headers": headers})  # noqa: S102 - the code is ours
