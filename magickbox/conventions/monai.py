"""The convention of MONAI Application Packages (MAP): manifests in the image, folders by variables.

The application is the shell command of app.json, started in its working directory. It finds INPUT and OUTPUT where the
manifest has them, and by HOLOSCAN_INPUT_PATH and HOLOSCAN_OUTPUT_PATH (MONAI_INPUTPATH, MONAI_OUTPUTPATH in packages of
version 0.1; both are always set). Its exit code is all that it says; it may write a proc.json into its output folder.
"""

from dataclasses import replace

from magickbox.convention import Image, Stage
from magickbox.dropins.monai_package import MODELS, NEW, WORKDIRS, Package, read_package
from magickbox.engine import Ended, Run

SHELL = ("/bin/sh", "-c")
UNKNOWN = Package("", WORKDIRS[NEW], f"{WORKDIRS[NEW]}/input", f"{WORKDIRS[NEW]}/output", MODELS[NEW])
"""Stands for the package of an image that is not there (any more); such a run is refused before it begins."""


class Monai:
    """MONAI Application Packages; implements ``convention.Convention``."""

    def lay_out(self, run: Run) -> Run:
        """A script gets the variables of a package; a container gets them with its own paths (``stage``)."""
        if run.processor.image is not None:
            return run
        models = run.processor.folder / "models"
        own = _folders(str(run.input.absolute()), str(run.output.absolute()), str(run.workdir.absolute()))
        own |= _models(str(models.absolute())) if models.is_dir() else {}
        environment = (*own.items(), *run.processor.environment)
        return replace(run, processor=replace(run.processor, environment=environment))

    def stage(self, run: Run, image: Image) -> Stage:
        """The package's own command and folders; the command of processor.json, as it is written, in its place."""
        found = read_package(image.manifests)
        package = found if isinstance(found, Package) else UNKNOWN
        command = run.processor.command or ((*SHELL, package.command) if package.command else ())
        usual = {name: value for name, value in _usual(package).items() if name not in image.variables}
        environment = {
            **usual,
            **dict(package.environment),
            **_folders(package.input, package.output, package.workdir),
            **dict(run.processor.environment),
        }
        return Stage(
            package.input,
            package.output,
            None,
            command,
            tuple(environment.items()),
            workdir=package.workdir,
            scratch=(package.workdir,) if package.workdir in WORKDIRS.values() else (),
            shared_memory=package.shared_memory,
        )

    def read_back(self, run: Run, ended: Ended) -> None:
        """Nothing to do: a package says nothing but its exit code."""


def _folders(source: str, target: str, workdir: str) -> dict[str, str]:
    return {
        "HOLOSCAN_INPUT_PATH": source,
        "HOLOSCAN_OUTPUT_PATH": target,
        "HOLOSCAN_WORKDIR": workdir,
        "MONAI_INPUTPATH": source,
        "MONAI_OUTPUTPATH": target,
        "MONAI_WORKDIR": workdir,
    }


def _models(folder: str) -> dict[str, str]:
    return {"HOLOSCAN_MODEL_PATH": folder, "MONAI_MODELPATH": folder}


def _usual(package: Package) -> dict[str, str]:
    """What the specification gives as defaults, for images that do not set them."""
    if package.is_old:
        return _models(package.models)
    return {
        **_models(package.models),
        "HOLOSCAN_CONFIG_PATH": "/var/holoscan/app.yaml",
        "HOLOSCAN_APP_MANIFEST_PATH": f"{NEW}/app.json",
        "HOLOSCAN_PKG_MANIFEST_PATH": f"{NEW}/pkg.json",
        "HOLOSCAN_DOCS": "/opt/holoscan/docs",
        "HOLOSCAN_LOGS": "/var/holoscan/logs",
    }
