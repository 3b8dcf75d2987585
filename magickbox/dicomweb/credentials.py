"""The header by which the box tells a DICOMweb service who it is."""

import base64
from collections.abc import Mapping

from magickbox.destination import StowDestination
from magickbox.errors import ConfigError
from magickbox.secret import reveal


def credentials(destination: StowDestination) -> Mapping[str, str]:
    """The header that says who we are; raises ConfigError."""
    if destination.bearer is not None:
        token = reveal(destination.bearer).text
        if not token.isascii() or " " in token:
            raise ConfigError(f"a bearer token has only ASCII characters and no blanks ({destination.bearer.source})")
        return {"Authorization": f"Bearer {token}"}
    if destination.password is not None:
        both = f"{destination.user}:{reveal(destination.password).text}".encode()
        return {"Authorization": f"Basic {base64.b64encode(both).decode()}"}
    return {}
