"""Which associations the box itself has open, so that its own port recognizes a job that the box sent to itself.

The receiver sees the address that the connection came from; for a call of the box's own that is the local address of
a socket that the sender opened (contracts, section 6, Loops).
"""

import ipaddress
import threading

Address = tuple[str, int]


def _plain(address: Address) -> Address:
    """The same address in one form: IPv4 mapped into IPv6 becomes IPv4, a scope id goes, IPv6 is compressed."""
    host, port = address[0].partition("%")[0], address[1]
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host, port
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed), port


class OwnCalls:
    """The local addresses of the box's own calls and the job each is for; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[Address, str] = {}
        self._met: set[Address] = set()

    def opened(self, address: Address, job: str) -> None:
        """Register a call before anything is said on it; ``address`` is the socket's own end."""
        with self._lock:
            self._jobs[_plain(address)] = job

    def closed(self, address: Address) -> None:
        """Forget a call that is over; an unknown one is no matter."""
        with self._lock:
            self._jobs.pop(_plain(address), None)
            self._met.discard(_plain(address))

    def job_of(self, address: Address) -> str | None:
        """The job whose delivery calls from ``address``, or None if it is not the box that calls."""
        with self._lock:
            job = self._jobs.get(_plain(address))
            if job is not None:
                self._met.add(_plain(address))
            return job

    def met(self, address: Address) -> bool:
        """True if the box's own port was called from ``address``: its association belongs to that one job."""
        with self._lock:
            return _plain(address) in self._met
