"""A name server that says what a test tells it to, or nothing."""

import asyncio
import socket
from collections import Counter

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSRecord


class NameServer:
    """Answers from `zone`: a name's addresses, an RCODE, or None to stay silent.

    An unknown name does not exist. `asked` counts the questions for each name.
    """

    def __init__(self, zone: dict[str, list[str] | str | None]) -> None:
        self.zone = zone
        self.asked: Counter[str] = Counter()
        self._heard = asyncio.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket.bind((host, port))
        asyncio.get_running_loop().add_reader(self._socket, self._answer)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    async def until_asked(self, *names: str) -> None:
        while not all(self.asked[name] for name in names):
            self._heard.clear()
            await self._heard.wait()

    def _answer(self) -> None:
        data, client = self._socket.recvfrom(4096)
        question = DNSRecord.parse(data)
        name = str(question.q.qname).rstrip(".").lower()
        self.asked[name] += 1
        self._heard.set()
        known = self.zone.get(name, "NXDOMAIN")
        if known is None:
            return
        reply = question.reply()
        if isinstance(known, str):
            reply.header.rcode = getattr(RCODE, known)
        else:
            self._fill(reply, question, known)
        self._socket.sendto(reply.pack(), client)

    def _fill(self, reply: DNSRecord, question: DNSRecord, known: list[str]) -> None:
        owner = question.q.qname
        for text in known:
            if text.startswith("cname:"):
                alias = text.removeprefix("cname:")
                reply.add_answer(RR(owner, QTYPE.CNAME, rdata=CNAME(alias), ttl=300))
                owner = alias
            elif ":" in text and question.q.qtype == QTYPE.AAAA:
                reply.add_answer(RR(owner, QTYPE.AAAA, rdata=AAAA(text), ttl=300))
            elif ":" not in text and question.q.qtype == QTYPE.A:
                reply.add_answer(RR(owner, QTYPE.A, rdata=A(text), ttl=300))
