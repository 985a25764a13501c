"""A supervisor of python children, each NAME GONE_BY PROGRAM on the command line; for test_supervisor.py."""

import os
import sys

from cli.child import ChildSpec
from cli.console import Console
from cli.supervisor import Supervisor

SHUTDOWN_S = float(os.environ.get("SHUTDOWN_S", "4"))

with Supervisor(Console(), SHUTDOWN_S) as supervisor:
    arguments = sys.argv[1:]
    while arguments:
        name, gone_by, program, *arguments = arguments
        command = (sys.executable, "-c", program)
        supervisor.start(ChildSpec(name, command, os.environ, gone_by=float(gone_by)))
    supervisor.run()
