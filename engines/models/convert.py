"""Runs the converter in a process of its own.

Transformers and the weights never stay in the caller's memory, and a crash in C++ is an error message.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from engines.errors import ConversionFailed

_ROOT = Path(__file__).parents[2]


def convert_bert(source: Path, target: Path) -> None:
    """Writes OpenVINO IR of the BERT in `source` to the new folder `target`. Blocks for seconds. Raises
    ConversionFailed with the converter's last words."""
    # The child finds this package even where it is run from a checkout without being installed.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "engines.models.bert", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 0:
        return
    words = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        words.append(f"the converter was ended by {signal.Signals(-done.returncode).name}")
    raise ConversionFailed(f"conversion to OpenVINO IR failed: {words[-1] if words else done.returncode}")
