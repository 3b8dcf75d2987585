"""How other systems call a processor; each implements ``magickbox.convention.Convention``."""

from collections.abc import Mapping

from magickbox.convention import Convention
from magickbox.conventions.magickbox import Magickbox
from magickbox.conventions.mercure import Mercure
from magickbox.conventions.monai import Monai
from magickbox.conventions.ror import Ror

CONVENTIONS: Mapping[str, Convention] = {
    "magickbox": Magickbox(),
    "mercure": Mercure(),
    "monai": Monai(),
    "ror": Ror(),
}
