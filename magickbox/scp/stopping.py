"""One signal for all connections of a port: the box stops. It can be polled together with a socket."""

import os


class Stopping:
    """Not set at first; once set, ``fd`` is readable for everyone for good."""

    def __init__(self) -> None:
        self.is_set = False
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def set(self) -> None:
        """Tell everyone who polls, and everyone who asks later."""
        self.is_set = True
        os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """Give the descriptor back; nobody may poll it any more."""
        os.close(self.fd)
