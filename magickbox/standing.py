"""What a look at the running box shows: the answer to ``status``."""

from magickbox.capacity import Capacity
from magickbox.clock import to_text
from magickbox.config import Settings
from magickbox.disk import Disk
from magickbox.dropins.folder import Dropins
from magickbox.engines.protection import Protection
from magickbox.errors import MagickboxError
from magickbox.ledger import Ledger
from magickbox.receive import Receive
from magickbox.scp.server import Receiver

MOST = 200


def standing(
    settings: Settings,
    receiver: Receiver,
    receive: Receive,
    capacity: Capacity,
    rules_problem: str | None,
    dropins: Dropins,
    protection: Protection,
    disk: Disk,
    ledger: Ledger,
) -> dict[str, object]:
    """How things stand, as JSON has it."""
    open_now = receive.open_associations()
    return {
        "ae_title": settings.ae_title,
        "listening": list(receiver.address),
        "listening_tls": list(receiver.tls_address or ()),
        "open_associations": len(open_now),
        "associations": [
            {
                "id": association.id, "calling": association.calling_ae, "called": association.called_ae,
                "from": association.peer, "began": to_text(association.began), "instances": count,
            }
            for association, count in open_now[:MOST]
        ],
        "open_connections": receiver.connections,
        "received": receive.traffic.numbers(),
        "answers": receive.times.numbers(),
        "behind": receive.behind(),
        "gathering": [
            {"calling": key.calling_ae, "called": key.called_ae, "instances": count, "due": round(due, 1)}
            for key, count, due in receive.gathering()
        ],
        "jobs_waiting": capacity.waiting,
        "receiving_pause": capacity.pause(),
        "rules_problem": rules_problem,
        "bad_processors": [bad.name for bad in dropins.bad],
        "sandbox": protection.told_at_start[1],
        "sandbox_problem": protection.refusal or protection.warning,
        "disk_free": disk.free(),
        "disk_mark": disk.mark(),
        "ledger_problem": _ledger_problem(ledger),
    }  # fmt: skip


def _ledger_problem(ledger: Ledger) -> str | None:
    """Why the ledger cannot be written, if it cannot: a transaction that changes nothing tries."""
    try:
        with ledger.transaction():
            return None
    except MagickboxError as exc:
        return str(exc)
