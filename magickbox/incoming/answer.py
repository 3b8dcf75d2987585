"""What a C-STORE is answered (PS3.4 B.2.3)."""

from dataclasses import dataclass

from magickbox.instance import Instance

SUCCESS, OUT_OF_RESOURCES, DISAGREES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one C-STORE: its status, why if it is a failure, and the instance if it is not."""

    status: int
    why: str = ""
    instance: Instance | None = None
