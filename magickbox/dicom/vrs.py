"""Which VR an element has whose file does not say it, by the dictionaries (PS3.6, and the private ones known)."""

from pydicom.datadict import dictionary_VR, private_dictionary_VR

PIXEL_REPRESENTATION = 0x00280103
# Where the dictionary leaves a choice. OW is right for all that may be OB or OW as well: implicit data are (PS3.5 A.1).
_CHOICES = {"OB or OW": b"OW", "US or OW": b"OW", "US or SS or OW": b"OW"}
_PRIVATE_CREATORS = range(0x10, 0x100)


class Vrs:
    """The VRs of one dataset or item: it remembers the private creators and whether pixels are signed."""

    def __init__(self, *, signed: bool = False) -> None:
        self.signed = signed
        self._creators: dict[int, str] = {}

    def inside(self) -> "Vrs":
        """The same for an item of a sequence in it: private creators begin anew, pixels stay what they are."""
        return Vrs(signed=self.signed)

    def wants(self, tag: int) -> bool:
        """True for an element whose value others' VRs depend on."""
        return tag == PIXEL_REPRESENTATION or ((tag >> 16) & 1 == 1 and tag & 0xFFFF in _PRIVATE_CREATORS)

    def learn(self, tag: int, value: bytes) -> None:
        """Take such a value, little endian."""
        if tag == PIXEL_REPRESENTATION:
            self.signed = value[:1] == b"\1"
        else:
            self._creators[(tag & 0xFFFF0000) | (tag & 0xFF) << 8] = value.decode("latin-1").strip("\0 ")

    def of(self, tag: int) -> bytes:
        """The VR of an element; UN, whose content is coded as it came (PS3.5 6.2.2), if nobody knows."""
        try:
            vr = self._private(tag) if tag >> 16 & 1 else dictionary_VR(tag)
        except KeyError:
            return b"UN"
        if vr == "US or SS":
            return b"SS" if self.signed else b"US"
        return _CHOICES.get(vr, vr.encode())

    def _private(self, tag: int) -> str:
        if tag & 0xFFFF in _PRIVATE_CREATORS:
            return "LO"
        vr = private_dictionary_VR(tag, self._creators[tag & 0xFFFFFF00])
        return "UN" if vr == "SQ" else vr  # as UN it keeps its bytes, whatever is in there
