"""Says why an instance that comes cannot be taken: what its command and its dataset call it."""

from magickbox.dicom.header import Identity

MAX_UID = 256


def uid_problem(uid: str) -> str | None:
    """Why a SOP Instance UID of a command is of no use at all, or None; odd ones are taken and named by a hash."""
    if not uid:
        return "the command has no SOP Instance UID"
    if len(uid) > MAX_UID:
        return f"the command's SOP Instance UID has {len(uid)} characters"
    return None if _is_text(uid) else f"the command's SOP Instance UID has bytes that are no text: {uid!a}"


def class_problem(uid: str) -> str | None:
    """Why a SOP Class UID of a command is of no use at all, or None; private ones may be as long as they like."""
    if _is_text(uid) and uid.isascii() and uid.isprintable():
        return None
    return f"the command's SOP Class UID has bytes that are no UID's: {uid[:MAX_UID]!a}"


def _is_text(uid: str) -> bool:
    """True if the ledger and JSON can keep it; a byte that is no UTF-8 has become half of a surrogate pair."""
    return uid.isascii() or not any("\ud800" <= c <= "\udfff" for c in uid)


def missing(identity: Identity) -> str | None:
    """What a dataset lacks, or has too long, to become part of a job; None if nothing."""
    if not identity.study:
        return "the dataset has no Study Instance UID"
    if not identity.sop_instance:
        return "the dataset has no SOP Instance UID"
    for name, uid in (("Study", identity.study), ("Series", identity.series)):
        if len(uid) > MAX_UID:
            return f"the dataset's {name} Instance UID has {len(uid)} characters"
    return None


def disagreement(sop_class: str, sop_instance: str, identity: Identity) -> str | None:
    """PS3.4 B.2.3, 0xA9xx: the dataset is not of the SOP class, or not the instance, that the command names."""
    if identity.sop_class and identity.sop_class != sop_class:
        return f"the command says SOP class {sop_class}, the dataset {identity.sop_class}"
    if identity.sop_instance and identity.sop_instance != sop_instance:
        return f"the command says SOP instance {sop_instance}, the dataset {identity.sop_instance}"
    return None
