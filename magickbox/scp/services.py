"""The services of the port beside C-STORE and C-ECHO: a room for each, found by its SOP class."""

from collections.abc import Mapping

from magickbox.scp.reports import CommitmentReports
from magickbox.scp.service import Service

_ALL: tuple[Service, ...] = (CommitmentReports(),)
SERVICES: Mapping[str, Service] = {uid: service for service in _ALL for uid in service.sop_classes}
