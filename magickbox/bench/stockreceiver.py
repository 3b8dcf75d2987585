"""Stock pynetdicom, a program of its own: ``python -m magickbox.bench.stockreceiver PORT FOLDER LONGEST_PDU``.

As its documentation shows a storage SCP: the event's dataset, its file meta, and ``save_as``.
"""

import sys

from pynetdicom import AE, AllStoragePresentationContexts, evt

from magickbox.quiet import quiet_pynetdicom


def main() -> None:
    """Listen until ended."""
    port, folder, longest = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    quiet_pynetdicom()

    def store(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        dataset.save_as(f"{folder}/{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        return 0x0000

    ae = AE("BENCH")
    ae.supported_contexts = AllStoragePresentationContexts
    ae.maximum_pdu_size = longest
    ae.maximum_associations = 100
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


if __name__ == "__main__":
    main()
