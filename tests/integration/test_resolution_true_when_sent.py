"""What people read is true when it is sent, whatever became of it since it was written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from support.machines import Drive, state_told
from support.resolution import SLOT, Servers, Stage, certain, instant, stage

from fleet_core.errors import Retryable
from fleet_server.notifiers.api import Recipient
from fleet_server.resolution import commands
from fleet_server.resolution.decisions import decide_escalation
from fleet_server.resolution.failing import watch_running

pytestmark = pytest.mark.integration


class Post:
    """A mail office that can be shut; it keeps what it accepted."""

    def __init__(self) -> None:
        self.shut = True
        self.sent: list[Any] = []

    def address(self, person: Recipient) -> str:
        return person.email

    async def send(self, message: Any) -> str:
        if self.shut:
            raise Retryable("the office is shut")
        self.sent.append(message)
        return message.key

    async def lookup(self, key: str) -> bool:
        return any(message.key == key for message in self.sent)

    async def close(self) -> None:
        """Nothing is open."""

    def texts(self, *purposes: str) -> list[str]:
        return [" ".join(one.text.split()) for one in self.sent if one.purpose in purposes]


@pytest_asyncio.fixture
async def story(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    servers.wms("DELETE", "/_faults")
    async with stage(dsn, servers, policy={"retry_attempts": 50}) as ready:
        yield ready


async def written(story: Stage) -> tuple[Post, Drive, Any]:
    """A committed case whose announcement waits since the mail office is shut."""
    post = Post()
    story.rt.notifiers = {"email": post}
    drive = Drive(story)
    await drive.live(30)
    case_id = await story.finding(drive.finding())
    assert (await story.case(case_id))["state"] == "committed" and post.sent == []
    return post, drive, case_id


async def opens(story: Stage, post: Post) -> None:
    """The office opens, and what waits is tried at once."""
    post.shut = False
    async with story.rt.pool.connection() as conn:
        await conn.execute("UPDATE act SET due_at = %s WHERE state IN ('intended', 'unknown')", (story.clock.now(),))
        await conn.execute("UPDATE repair_case SET next_at = %s", (story.clock.now(),))
    await story.settle()


async def test_what_is_still_true_is_sent_as_it_is(story: Stage) -> None:
    post, drive, _ = await written(story)
    await drive.live(0.5)
    await opens(story, post)
    (text,) = post.texts("announcement")
    assert "still works normally" in text and "before a failure is expected" in text


async def test_an_announcement_of_a_cancelled_repair_and_its_cancellation_are_not_sent(story: Stage) -> None:
    post, _, case_id = await written(story)
    await story.command(commands.cancel_case, case_id, "sold", False)
    await opens(story, post)
    assert post.sent == []
    acts = await story.rows("SELECT state, error FROM act WHERE kind = 'message'")
    assert {act["state"] for act in acts} == {"released"}
    assert await story.escalations(case_id) == []


async def test_an_announcement_names_the_window_that_is_booked_by_then(story: Stage) -> None:
    post, drive, case_id = await written(story)
    before = (await story.case(case_id))["plan"]["window"]
    story.rt.prognose = certain(24.0)
    await story.finding(drive.finding(revision=2))
    case = await story.case(case_id)
    if case["plan"]["window"]["start"] == before["start"]:
        pytest.fail("the story does not move its window")
    await opens(story, post)
    (text,) = post.texts("announcement", "amendment")
    start = instant(case["plan"]["window"]["start"])
    assert f"{start:%H:%M}" in text and "moved" not in text


async def test_a_machine_that_failed_meanwhile_is_not_said_to_work(story: Stage) -> None:
    post, drive, _ = await written(story)
    await state_told(story, SLOT, "critical", "degrading")
    drive.model.wear = 0.9
    await drive.live(0.5)
    await drive.until_seized()
    await drive.live(1.5)
    await watch_running(story.rt)
    await opens(story, post)
    told = post.texts("announcement", "amendment", "failure", "alert")
    assert told and all("has stood still since" in text for text in told)
    for words in ("still works normally", "before a failure is expected", "early signs"):
        assert not any(words in text for text in told)


async def test_a_machine_that_rests_or_is_silent_meanwhile_is_said_to(story: Stage) -> None:
    post, drive, _ = await written(story)
    drive.model.wear = 1.0
    await drive.live(1.5)
    await opens(story, post)
    (text,) = post.texts("announcement")
    assert "stands still at present" in text and "works normally" not in text


async def test_silence_is_said(story: Stage) -> None:
    post, _, _ = await written(story)
    story.clock.shift(timedelta(hours=2).total_seconds())
    await opens(story, post)
    (text,) = post.texts("announcement")
    assert "Nothing has been heard of the machine since" in text and "works normally" not in text


async def test_a_repair_that_is_done_meanwhile_is_not_announced_as_one_to_come(story: Stage) -> None:
    post, drive, case_id = await written(story)
    (order,) = await story.rows("SELECT work_order_id FROM work_order WHERE case_id = %s", case_id)
    await drive.live(1)
    report = commands.WorkReport(failure_mode="bearing_spalling", new_serial="BRG-2")
    await story.command(commands.complete_work_order, order["work_order_id"], report)
    await opens(story, post)
    assert post.texts("announcement") == []
    (act,) = await story.rows("SELECT state FROM act WHERE purpose = 'announcement'")
    assert act["state"] == "released"


async def test_a_window_that_is_over_is_not_announced_as_one_to_come(story: Stage) -> None:
    post, drive, case_id = await written(story)
    end = instant((await story.case(case_id))["plan"]["window"]["end"])
    await drive.live((end - story.clock.now()) / timedelta(hours=1) + 1)
    await opens(story, post)
    texts = post.texts("announcement")
    assert len(texts) == 1 and "was to take place" in texts[0] and "has not been reported yet" in texts[0]
    assert [one.calendar for one in post.sent if one.purpose == "announcement"] == [None]


async def test_a_question_that_was_answered_is_not_sent(story: Stage) -> None:
    post = Post()
    story.rt.notifiers = {"email": post}
    story.rt.prognose = certain(abstained=True, abstain_code="no_comparison", rul_p10_h=None)
    case_id = await story.finding()
    (asked,) = await story.escalations(case_id)
    await story.command(decide_escalation, asked["escalation_id"], "watch")
    await opens(story, post)
    assert post.sent == []
