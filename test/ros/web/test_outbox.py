# SPDX-License-Identifier: Apache-2.0
"""What waits for a browser stays small, is the newest, and goes out as fast as it is shown."""

from hydra_ros.web.outbox import WINDOW, Outbox


def send_all(outbox: Outbox, now: float = 0.0) -> list[str | bytes]:
    sent = []
    while (message := outbox.take(now)) is not None:
        outbox.sent()
        sent.append(message)
    return sent


def test_a_browser_that_shows_nothing_gets_a_window_of_packs_and_later_the_newest():
    outbox = Outbox()
    sent = []
    for number in range(1000):
        outbox.put("frame", b"frame %d" % number)
        sent += send_all(outbox)
    assert sent == [b"frame %d" % number for number in range(WINDOW)]
    assert outbox.waiting_bytes == len(b"frame 999")
    assert outbox.confirm(1)
    assert send_all(outbox) == [b"frame 999"]


def test_texts_and_answers_are_not_held_up_by_pictures():
    outbox = Outbox()
    for number in range(WINDOW + 1):
        outbox.put("frame", b"frame %d" % number)
        assert len(send_all(outbox)) == (number < WINDOW)
    outbox.put("status", "old")
    outbox.put("status", "new")
    outbox.answer("first")
    outbox.answer("second")
    assert send_all(outbox) == ["first", "second", "new"]


def test_news_that_nobody_needs_any_more_are_not_sent():
    outbox = Outbox()
    outbox.put("progress 1", "half")
    outbox.put("progress 2", "all")
    outbox.withdraw("progress 1")
    outbox.withdraw("progress 3")
    assert send_all(outbox) == ["all"]


def test_a_kind_that_comes_often_does_not_starve_another():
    outbox = Outbox()
    outbox.put("frame", b"1")
    outbox.put("memory", b"m")
    assert outbox.take(0.0) == b"1"
    outbox.sent()
    outbox.put("frame", b"2")
    assert outbox.take(0.0) == b"m"


def test_only_what_was_sent_can_be_confirmed():
    outbox = Outbox()
    outbox.put("frame", b"1")
    send_all(outbox)
    assert not outbox.confirm(2)
    assert outbox.confirm(1)
    assert outbox.confirm(1)
    assert not outbox.confirm(0)


def test_a_stall_is_counted_from_what_was_not_confirmed_or_not_taken():
    outbox = Outbox()
    assert outbox.stalled_for(100.0) == 0.0
    outbox.put("frame", b"1")
    send_all(outbox, 10.0)
    assert outbox.stalled_for(14.0) == 4.0
    outbox.confirm(1)
    assert outbox.stalled_for(14.0) == 0.0
    outbox.answer("stuck in the network's buffer")
    outbox.take(20.0)
    assert outbox.stalled_for(23.0) == 3.0
    outbox.sent()
    assert outbox.stalled_for(23.0) == 0.0
