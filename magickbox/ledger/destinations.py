"""A delivery's destination as the ledger keeps it: what it was when the delivery was planned, no secret in it."""

import json
from dataclasses import asdict
from typing import Any

from magickbox.destination import Destination, DicomDestination, FolderDestination, Line, Secret, StowDestination, Tls
from magickbox.proof import How, Verify
from magickbox.transfersyntax import TransferSyntaxes

_KINDS: dict[str, type[Destination]] = {"dicom": DicomDestination, "stow": StowDestination, "folder": FolderDestination}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_row(destination: Destination) -> tuple[str, str, int, str, str]:
    """The columns destination, host, port, calling_ae and called_ae; the last four are empty for what is no DICOM."""
    text = json.dumps({"kind": _NAMES[type(destination)], **asdict(destination)}, ensure_ascii=False)
    if isinstance(destination, DicomDestination):
        return text, destination.host, destination.port, destination.calling_ae, destination.called_ae
    return text, "", 0, "", ""


def from_row(text: str, host: str, port: int, calling_ae: str, called_ae: str) -> Destination:
    """What ``to_row`` made; a row from before there were kinds has no text."""
    if not text:
        return DicomDestination(host, port, calling_ae, called_ae)
    told: dict[str, Any] = json.loads(text)
    kind = _KINDS[told.pop("kind")]
    if told.get("tls") is not None:
        told["tls"] = _tls(told["tls"])
    for key in ("bearer", "password"):
        if told.get(key) is not None:
            told[key] = Secret(told[key]["source"])
    if "transfer_syntaxes" in told:
        told["transfer_syntaxes"] = TransferSyntaxes(
            **{key: tuple(each) for key, each in told["transfer_syntaxes"].items()}
        )
    if "line" in told:
        told["line"] = Line(**told["line"])
    if "verify" in told:
        told["verify"] = Verify(**{**told["verify"], "how": How(told["verify"]["how"])})
    return kind(**told)


def _tls(told: dict[str, Any]) -> Tls:
    password = told.pop("key_password")
    return Tls(**told, key_password=None if password is None else Secret(password["source"]))
