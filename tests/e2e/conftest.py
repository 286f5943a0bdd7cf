import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.e2e.receiver import Receiver
from tests.e2e.service import Service


@dataclass(frozen=True)
class Authority:
    """A certificate authority that the service is told to trust."""

    file: Path
    context: ssl.SSLContext
    ca: trustme.CA

    def context_of(self, name: str) -> ssl.SSLContext:
        """Return that of a server by another name than localhost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name).configure_cert(context)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(file, context, ca)


@pytest.fixture
async def receiver(authority: Authority) -> AsyncIterator[Receiver]:
    async with Receiver(authority.context) as receiver:
        yield receiver


@pytest.fixture
async def service(tmp_path: Path, authority: Authority) -> AsyncIterator[Service]:
    """A service that is not started yet; it is killed at the end if it still runs."""
    service = Service(tmp_path, authority.file)
    yield service
    if service.process is not None and service.process.returncode is None:
        await service.kill()
