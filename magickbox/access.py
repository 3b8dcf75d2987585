"""Who may open an association: by calling AE title and address, and how many at once."""

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass

from magickbox.association import same_title
from magickbox.errors import ConfigError
from magickbox.intake import CALLED_NOT_RECOGNIZED, CALLING_NOT_RECOGNIZED, LIMIT_EXCEEDED, Refusal, Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Caller:
    """One entry of ``calling_ae_allowed``: an AE title (None: any) from a network (None: anywhere)."""

    title: str | None
    network: Network | None

    def lets_in(self, request: Request) -> bool:
        """True if the request is this caller's."""
        if self.title is not None and not same_title(self.title, request.calling_ae):
            return False
        return self.network is None or ipaddress.ip_address(request.address[0].partition("%")[0]) in self.network


def read_caller(text: str) -> Caller:
    """An entry from its text: ``PACS``, ``PACS@10.0.0.5``, ``*@10.0.0.0/24``; raises ConfigError."""
    title, at, network = text.strip().partition("@")
    title = title.strip()
    if not title:
        raise ConfigError(f"calling_ae_allowed: '{text}' has no AE title; '*' stands for any")
    try:
        parsed = ipaddress.ip_network(network.strip(), strict=False) if at else None
    except ValueError as exc:
        raise ConfigError(f"calling_ae_allowed: '{text}': {exc}") from exc
    return Caller(None if title == "*" else title, parsed)


@dataclass(frozen=True)
class Access:
    """The rules of admission; ``callers`` None lets in anyone, ``knows`` None takes any called AE title.

    ``max_per_caller`` bounds the associations of one calling AE title.
    """

    max_associations: int = 200
    callers: tuple[Caller, ...] | None = None
    knows: Callable[[str], bool] | None = None
    max_per_caller: int | None = None

    def judge(self, request: Request, calling: Collection[str], obstacle: str | None = None) -> Refusal | None:
        """Why a request is refused, or None if it is not (contracts, section 2).

        ``calling`` are the calling AE titles of the associations that are open, ``obstacle`` is why none can be taken.
        """
        if self.callers is not None and not any(caller.lets_in(request) for caller in self.callers):
            return Refusal(*CALLING_NOT_RECOGNIZED, "calling AE title and address are not in calling_ae_allowed")
        if self.knows is not None and not self.knows(request.called_ae):
            return Refusal(*CALLED_NOT_RECOGNIZED, "no processor serves this called AE (unknown_called_ae = reject)")
        if len(calling) >= self.max_associations:
            return Refusal(*LIMIT_EXCEEDED, f"{len(calling)} associations are open (max_associations)")
        own = sum(same_title(title, request.calling_ae) for title in calling) if self.max_per_caller else 0
        if self.max_per_caller is not None and own >= self.max_per_caller:
            return Refusal(*LIMIT_EXCEEDED, f"this calling AE has {own} associations open (max_per_caller)")
        return None if obstacle is None else Refusal(*LIMIT_EXCEEDED, obstacle)
