"""Keep pynetdicom from logging: what it logs names patients, and goes where the box's own logs do not."""

import logging

from pynetdicom import _config


def quiet_pynetdicom() -> None:
    """Silence pynetdicom for this process; to be called before its first association, any number of times.

    Its settings are module globals, so the two families that talk DICOM call this and nobody else sets them.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logger = logging.getLogger("pynetdicom")
    logger.handlers[:] = [logging.NullHandler()]
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
