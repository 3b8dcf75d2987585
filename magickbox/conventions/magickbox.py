"""The box's own convention, and that of the buckets of the original MagickBox.

INPUT and OUTPUT are at /input and /output, a folder that is kept from run to run at /memory. A bucket is started by
its /root/work.sh, because its image names no command, or only a shell.
"""

from magickbox.convention import Image, Stage
from magickbox.engine import Ended, Run

INPUT, OUTPUT, MEMORY = "/input", "/output", "/memory"
BUCKET = ("/bin/bash", "-l", "-c", f"/root/work.sh {INPUT} {OUTPUT}")


class Magickbox:
    """The default; implements ``convention.Convention``."""

    def lay_out(self, run: Run) -> Run:
        """Nothing to do: a run's folder looks as it should."""
        return run

    def stage(self, run: Run, image: Image) -> Stage:
        """The command of processor.json with INPUT and OUTPUT, else the bucket's script, else the image's command."""
        command: tuple[str, ...] = ()
        if run.processor.command:
            command = (*run.processor.command, INPUT, OUTPUT)
        elif image.is_bucket:
            command = BUCKET
        return Stage(INPUT, OUTPUT, MEMORY, command, as_root=image.is_bucket)

    def read_back(self, run: Run, ended: Ended) -> None:
        """Nothing to do: the processor says proc.json itself."""
