"""Several `gangline` at the very same instant: python race.py COUNT OUTPUTS ARGUMENTS…

A process loads the program, forks COUNT times, lets all children go at once by closing a pipe,
and each is then the real command line, in a session of its own. So they do not differ by the tenth
of a second that a start of Python takes more or less. It prints their process numbers, then the
codes they exit with; what they say goes to OUTPUTS-N.
"""

import os
import sys

from gangline.cli import commands, live  # noqa: F401 - loaded before the start signal
from gangline.cli.main import run


def main(count, outputs, argv):
    gate_read, gate_write = os.pipe()
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.close(gate_write)
            output = os.open(f"{outputs}-{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.read(gate_read, 1)  # until the gate is closed
            os.close(gate_read)
            code = run(argv)
            sys.stdout.flush()
            os._exit(code)
        children.append(pid)
    print(*children, flush=True)
    os.close(gate_write)
    for pid in children:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
