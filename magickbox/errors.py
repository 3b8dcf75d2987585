"""The whole exception tree.

::

    MagickboxError                 anything the box says on purpose; its text is one line for a person
    ├── ConfigError                settings, routing rules or a processor's declaration are wrong
    ├── DataFolderError            the data folder cannot be used (not writable, wrong filesystem)
    │   └── AlreadyRunning         another box holds the lock of this data folder
    ├── LedgerError                the ledger cannot be read, or is of a newer version
    ├── DiskFull                   the disk has no room for what was to be written
    ├── UnreadableHeader           a dataset's header cannot be read up to where it must be
    ├── ForbiddenMove              a job's state does not allow what was asked
    ├── NotFound                   no job, delivery or processor of that name
    ├── BackupError                a backup is damaged, or cannot be put where it was asked for
    ├── EngineDown                 there is no working engine for containers, or it does not answer
    ├── GoesOn                     a run outlives the box that waited for it
    └── PeerError                  a peer could not be reached, or would not talk

Network results of a delivery are values (``destination.Delivered``, ``Retry``, ``Rejected``), not exceptions.
"""


class MagickboxError(Exception):
    """Anything the box says on purpose; the text is one line for a person."""


class ConfigError(MagickboxError):
    """Settings, routing rules or a processor's declaration are wrong."""


class DataFolderError(MagickboxError):
    """The data folder cannot be used."""


class AlreadyRunning(DataFolderError):
    """Another box holds the lock of this data folder."""


class LedgerError(MagickboxError):
    """The ledger cannot be read, or is of a newer version than this program."""


class DiskFull(MagickboxError):
    """The disk has no room for what was to be written; the work waits and is tried again."""


class UnreadableHeader(MagickboxError):
    """A dataset's header cannot be read up to where it must be."""


class ForbiddenMove(MagickboxError):
    """A job's state does not allow what was asked."""


class NotFound(MagickboxError):
    """No job, delivery or processor of that name."""


class BackupError(MagickboxError):
    """A backup is damaged, or cannot be made or put where it was asked for."""


class EngineDown(MagickboxError):
    """There is no working engine for containers on this machine, or it does not answer."""


class GoesOn(MagickboxError):
    """A run at a cluster goes on, and nobody waits for it any more: the next start of the box takes it up."""


class PeerError(MagickboxError):
    """A peer could not be reached, or would not talk."""
