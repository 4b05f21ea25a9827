"""The option by which commands name a device."""

import argparse

from ..runtime.default_device import default_device, get_device
from ..runtime.device import Device


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`."""
    parser.add_argument(
        "--device", metavar="NAME", help="simulator or cuda:N; by default the best there is"
    )


def chosen_device(arguments: argparse.Namespace) -> Device:
    """Returns the device that was named, else the default one; raises DeviceError."""
    if arguments.device is None:
        return default_device()
    return get_device(arguments.device)
