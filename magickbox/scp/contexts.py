"""Which presentation contexts the box accepts: every storage class, with the first transfer syntax that is known.

And those of the other services, in the transfer syntaxes that they read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass, VerificationServiceClass
from pynetdicom.sop_class import uid_to_service_class

from magickbox.scp.services import SERVICES

ACCEPTED, NO_ABSTRACT_SYNTAX, NO_TRANSFER_SYNTAX = 0x00, 0x03, 0x04

# In the registry as transfer syntaxes, but no way to encode a dataset that is sent as one: MIME, XML, ST 2110 streams.
_NOT_FOR_FILES = ("1.2.840.10008.1.2.6.", "1.2.840.10008.1.2.7.")
# Private ones that devices in the field offer first: GE's big-endian pixels, Philips' and Papyrus' are in the registry.
_PRIVATE = frozenset({"1.2.840.113619.5.2"})

KNOWN = (
    frozenset(
        uid
        for uid, (_, kind, *_) in UID_dictionary.items()
        if kind == "Transfer Syntax" and not uid.startswith(_NOT_FOR_FILES)
    )
    | _PRIVATE
)


def takes(sop_class: str) -> bool:
    """True for Verification, the services, every storage class, and what no standard knows: private, retired ones."""
    if sop_class in SERVICES:
        return True
    service = uid_to_service_class(sop_class)
    return service is ServiceClass or issubclass(service, StorageServiceClass | VerificationServiceClass)


def answer(
    proposed: Iterable[PresentationContext], asked: Mapping[UID, SCP_SCU_RoleSelectionNegotiation] | None = None
) -> list[PresentationContext]:
    """The result for each proposed context (PS3.8 9.3.3.2), in the order of their ids; ``asked`` are the roles.

    A service whose SCU the box is, is there for peers only that want to be its SCP: others would ask it of the box.
    """
    scps = {str(uid) for uid, item in (asked or {}).items() if item.scp_role}
    return sorted((_answer(context, scps) for context in proposed), key=lambda context: context.context_id or 0)


def _answer(proposed: PresentationContext, scps: Collection[str]) -> PresentationContext:
    result = PresentationContext()
    result.context_id = proposed.context_id
    result.abstract_syntax = proposed.abstract_syntax
    service = SERVICES.get(str(proposed.abstract_syntax))
    known = [syntax for syntax in proposed.transfer_syntax if syntax in (service.syntaxes if service else KNOWN)]
    # In a refusal the transfer syntax is not significant, but one must be there.
    result.transfer_syntax = [known[0] if known else _any(proposed.transfer_syntax)]
    asks_us = service is not None and service.peer_is_scp and service.sop_classes.isdisjoint(scps)
    if asks_us or not takes(str(proposed.abstract_syntax)):
        result.result = NO_ABSTRACT_SYNTAX
    else:
        result.result = ACCEPTED if known else NO_TRANSFER_SYNTAX
    return result


def _any(syntaxes: Sequence[UID]) -> UID:
    return syntaxes[0] if syntaxes else UID("1.2.840.10008.1.2")


def roles(
    asked: dict[UID, SCP_SCU_RoleSelectionNegotiation], accepted: Iterable[PresentationContext]
) -> list[SCP_SCU_RoleSelectionNegotiation]:
    """The answer to role selection items (PS3.7 D.3.3.4): a peer may be SCU; SCP only of what the box is the SCU of."""
    classes = {context.abstract_syntax for context in accepted}
    items = []
    for uid, asked_for in asked.items():
        if uid in classes:
            item = SCP_SCU_RoleSelectionNegotiation()
            item.sop_class_uid = uid
            service = SERVICES.get(str(uid))
            is_scp = service is not None and service.peer_is_scp
            item.scu_role = bool(asked_for.scu_role) and not is_scp
            item.scp_role = bool(asked_for.scp_role) and is_scp
            items.append(item)
    return items
