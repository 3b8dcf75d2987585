"""By which number other machines reach this one."""

import fcntl
import ipaddress
import socket
import struct
from contextlib import suppress

EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # what is bound to all addresses says it is bound to
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737, RFC 3849: nobody's
_SIOCGIFADDR = 0x8915  # netdevice(7)


def own_address(family: int = socket.AF_INET) -> str | None:
    """The address from which this machine speaks to others, of IPv4 or IPv6; None without one. Sends nothing."""
    with suppress(OSError, KeyError), socket.socket(family, socket.SOCK_DGRAM) as out:
        out.connect((_ELSEWHERE[socket.AddressFamily(family)], 9))
        return str(out.getsockname()[0])
    # No way out of this network: the first address that is not this machine's own loop.
    every = _of_interfaces() if family == socket.AF_INET else []
    return next((each for each in every if not ipaddress.ip_address(each).is_loopback), None)


def _of_interfaces() -> list[str]:
    """The IPv4 addresses of all interfaces."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found
