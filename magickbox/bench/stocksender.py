"""Stock pynetdicom, a program of its own: ``python -m magickbox.bench.stocksender PORT FOLDER``.

As its documentation shows a storage SCU: one association, ``dcmread`` and ``send_c_store`` for each file.
"""

import sys
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE

from magickbox.quiet import quiet_pynetdicom


def main() -> int:
    """Send every file; exit code 1 if one is not taken."""
    port, files = int(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir())
    quiet_pynetdicom()
    first = dcmread(files[0], stop_before_pixels=True)
    ae = AE("BENCH")
    ae.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port)
    if not association.is_established:
        return 1
    failed = sum(association.send_c_store(dcmread(file)).get("Status") != 0 for file in files)
    association.release()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
