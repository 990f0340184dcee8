"""The stream of one session, both directions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from curve_tun import ProtocolError

from .messages import EOF, FAILURE, Message, message_bytes, parse_message
from .port import WAIT


@dataclass
class Block:
    begin: int
    end: int
    flags: int
    id: int = 0
    sent_at: float = 0.0
    sendings: int = 0


class Stream:
    """Both directions of one session: a window of blocks, acknowledgments at once, ends. One thread.

    `send` takes a message's bytes; `recv` waits at most that many seconds and gives a message's bytes or None.
    """

    def __init__(self, send: Callable[[bytes], None], recv: Callable[[float], bytes | None], first_block: int) -> None:
        self._send, self._recv = send, recv
        self.block_size = first_block
        self.window = 16  # blocks; the reference keeps 64 messages, and drops more
        self.acks = True  # False: takes what comes and says nothing
        self.selective = True  # ranges beyond the first are sent
        self.out = bytearray()  # from self.acked on
        self.acked = 0
        self.queued = 0  # bytes of the stream that are in blocks
        self.finish_flags = 0
        self.blocks: list[Block] = []
        self.end_sent = self.end_acked = False
        self.next_id = 1
        self.rto = 0.3
        self.inbox = bytearray()
        self.taken = 0  # bytes in order
        self.early: dict[int, bytes] = {}
        self.end_position: int | None = None
        self.end_flags = 0
        self.received = 0  # messages

    # the local side

    @property
    def ended(self) -> str:
        """How the other direction ended: "", "eof" or "failure"."""
        if self.end_position is None or self.taken < self.end_position:
            return ""
        return "failure" if self.end_flags & FAILURE else "eof"

    @property
    def unacked(self) -> int:
        return len(self.out)

    def write(self, data: bytes) -> None:
        self.out += data

    def finish(self, flags: int = EOF) -> None:
        self.finish_flags = flags

    def send(self, data: bytes, timeout: float = WAIT) -> None:
        """Returns when all of it is acknowledged."""
        self.write(data)
        self.wait(lambda: not self.out, f"{len(data)} bytes acknowledged", timeout)

    def end(self, flags: int = EOF, timeout: float = WAIT) -> None:
        """Returns when the end of our direction is acknowledged."""
        self.finish(flags)
        self.wait(lambda: self.end_acked, "the end acknowledged", timeout)

    def recv_exactly(self, size: int, timeout: float = WAIT) -> bytes:
        self.wait(lambda: len(self.inbox) >= size or self.ended, f"{size} bytes", timeout)
        if len(self.inbox) < size:
            raise ProtocolError(f"{self.ended} after {len(self.inbox)} of {size} bytes")
        return self._take(size)

    def recv_some(self, timeout: float = WAIT) -> bytes:
        self.wait(lambda: self.inbox or self.ended, "anything", timeout)
        return self._take(len(self.inbox))

    def recv_until_end(self, timeout: float = WAIT) -> bytes:
        self.wait(lambda: self.ended, "the end", timeout)
        return self._take(len(self.inbox))

    def echo(self, data: bytes, timeout: float = WAIT) -> bytes:
        self.write(data)
        return self.recv_exactly(len(data), timeout)

    def close(self) -> None:
        """Ends in order, and stays a little, for a peer whose last word is lost."""
        self.end()
        self.recv_until_end()
        self.linger(0.1)

    def linger(self, seconds: float) -> None:
        """Goes on answering for that long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def wait(self, condition: Callable[[], object], what: str, timeout: float = WAIT) -> None:
        """Fails if nothing of either stream moves for that long."""
        before, deadline = (self.taken, self.acked), time.monotonic() + timeout
        self.push()
        while not condition():
            if (self.taken, self.acked) != before:
                before, deadline = (self.taken, self.acked), time.monotonic() + timeout
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{what}: nothing for {timeout} s; {self.taken} bytes came, {self.acked} are acked")
            self.turn(min(left, 1.0))

    def _take(self, size: int) -> bytes:
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    # the network

    def turn(self, timeout: float) -> None:
        """Sends what may go and takes what comes within that time."""
        self.push()
        due = min((block.sent_at + self.rto for block in self.blocks), default=None)
        if due is not None:
            timeout = min(timeout, max(0.001, due - time.monotonic()))
        data = self._recv(timeout)
        while data is not None:
            self.take(data)
            data = self._recv(0)
        self.push()

    def push(self) -> None:
        now = time.monotonic()
        for block in self.blocks:
            if now >= block.sent_at + self.rto:
                self.rto = min(self.rto * 1.3, 2.0) if block.sendings > 1 else self.rto
                self._send_block(block, now)
        while len(self.blocks) < self.window and self.queued < self.acked + len(self.out):
            begin = self.queued
            end = min(begin + self.block_size, self.acked + len(self.out), (begin // 131072 + 1) * 131072)
            last = end == self.acked + len(self.out)
            self._add(Block(begin, end, self.finish_flags if last else 0), now)
        if self.finish_flags and not self.end_sent and self.queued == self.acked + len(self.out):
            self._add(Block(self.queued, self.queued, self.finish_flags), now)

    def _add(self, block: Block, now: float) -> None:
        self.queued = block.end
        self.end_sent = self.end_sent or block.flags != 0
        self.blocks.append(block)
        self._send_block(block, now)

    def skip(self, position: int) -> None:
        """The bytes before were sent by the test itself; the stream goes on there."""
        self.queued = self.acked = position

    def ping(self) -> None:
        """An empty block, which the peer answers; a server's program starts by it."""
        self._send(message_bytes(Message(id=self._take_id())))

    def _take_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _send_block(self, block: Block, now: float) -> None:
        block.id, block.sent_at, block.sendings = self._take_id(), now, block.sendings + 1
        data = bytes(self.out[block.begin - self.acked : block.end - self.acked])
        self._send(message_bytes(Message(block.id, 0, (), block.begin, data, block.flags)))

    def ranges(self) -> tuple[tuple[int, int], ...]:
        first = self.taken + (1 if self.ended else 0)
        ranges = [(0, first)]
        if self.selective:
            for position in sorted(self.early):
                end = position + len(self.early[position])
                if position == ranges[-1][1] and len(ranges) > 1 and end - ranges[-1][0] < 65536:
                    ranges[-1] = (ranges[-1][0], end)
                elif position - ranges[-1][1] < 65536 and position >= ranges[-1][1]:
                    ranges.append((position, end))
        return tuple(ranges[:6])

    def take(self, data: bytes) -> None:
        message = parse_message(data)
        self.received += 1
        if message.ranges or message.acked_id:
            self._take_acks(message)
        if message.id:
            self._store(message)
            if self.acks:
                self._send(message_bytes(Message(0, message.id, self.ranges())))

    def _take_acks(self, message: Message) -> None:
        now = time.monotonic()
        total = self.acked + len(self.out)
        if message.ranges and message.ranges[0][1] > total + 1:
            raise ProtocolError("acknowledges what was never sent")
        left = []
        for block in self.blocks:
            if block.id == message.acked_id:
                self.rto = max(0.1, min(2.0, 3 * (now - block.sent_at)))
            if block.flags:
                done = bool(message.ranges) and message.ranges[0][1] > block.end
                self.end_acked = self.end_acked or done
            else:
                done = message.covers(block.begin, block.end)
            if not done:
                left.append(block)
        self.blocks = left
        head = min((block.begin for block in left), default=self.queued)
        del self.out[: head - self.acked]
        self.acked = head

    def _store(self, message: Message) -> None:
        if message.flags:
            self.end_position, self.end_flags = message.end, message.flags
        if message.end > self.taken and message.block:
            if message.position <= self.taken:
                self.inbox += message.block[self.taken - message.position :]
                self.taken = message.end
            elif len(message.block) > len(self.early.get(message.position, b"")):
                self.early[message.position] = message.block
        while ready := [position for position in self.early if position <= self.taken]:
            for position in ready:
                block = self.early.pop(position)
                if position + len(block) > self.taken:
                    self.inbox += block[self.taken - position :]
                    self.taken = position + len(block)
