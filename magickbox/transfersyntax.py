"""Transfer syntaxes by their UIDs (PS3.5 Annex A), and what a destination is to get instead of the stored one."""

import re
from collections.abc import Collection
from dataclasses import dataclass

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE = "1.2.840.10008.1.2.5"

# Pixel data as they are, one sample after the other.
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG})
JPEGS = frozenset({JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1})
JPEG_LS_BOTH = frozenset({JPEG_LS, JPEG_LS_NEAR})
JPEG_2000_ALL = frozenset({JPEG_2000_LOSSLESS, JPEG_2000, HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, HTJ2K})
ENCAPSULATED = JPEGS | JPEG_LS_BOTH | JPEG_2000_ALL | {RLE}
# What an instance can be converted to without losing anything, whatever it was stored in.
LOSSLESS_TARGETS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, DEFLATED, JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS, JPEG_LS, RLE)
# Their names as people write them: the keywords of PS3.6.
KEYWORDS = {
    "ImplicitVRLittleEndian": IMPLICIT_LITTLE,
    "ExplicitVRLittleEndian": EXPLICIT_LITTLE,
    "DeflatedExplicitVRLittleEndian": DEFLATED,
    "ExplicitVRBigEndian": EXPLICIT_BIG,
    "JPEGBaseline8Bit": JPEG_BASELINE,
    "JPEGExtended12Bit": JPEG_EXTENDED,
    "JPEGLossless": JPEG_LOSSLESS,
    "JPEGLosslessSV1": JPEG_LOSSLESS_SV1,
    "JPEGLSLossless": JPEG_LS,
    "JPEGLSNearLossless": JPEG_LS_NEAR,
    "JPEG2000Lossless": JPEG_2000_LOSSLESS,
    "JPEG2000": JPEG_2000,
    "HTJ2KLossless": HTJ2K_LOSSLESS,
    "HTJ2KLosslessRPCL": HTJ2K_LOSSLESS_RPCL,
    "HTJ2K": HTJ2K,
    "RLELossless": RLE,
}
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


def uid_of(text: str) -> str | None:
    """The UID that a keyword or a UID stands for; None if it is neither. UIDs need not be known."""
    return KEYWORDS.get(text) or (text if _UID.fullmatch(text) and len(text) <= 64 else None)


@dataclass(frozen=True)
class TransferSyntaxes:
    """What a destination is to get; all empty: as stored, else uncompressed.

    ``preferred`` are tried, in this order, when the stored one is not accepted. ``accepted``, if there are any, are
    together with the preferred ones all that is proposed. ``never`` are not proposed, even if stored so.
    """

    preferred: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def wishes(self, stored: str, convertible: Collection[str]) -> tuple[str, ...]:
        """The transfer syntaxes to propose for what is stored so, the best first; ``convertible`` can be made of it."""
        every = dict.fromkeys((stored, *self.preferred, *self.accepted, EXPLICIT_LITTLE, IMPLICIT_LITTLE))
        only = {*self.accepted, *self.preferred} if self.accepted else every
        return tuple(
            each
            for each in every
            if each not in self.never and each in only and (each == stored or each in convertible)
        )


AS_STORED = TransferSyntaxes()
