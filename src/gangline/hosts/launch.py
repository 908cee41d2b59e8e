"""What is typed into an idle pane runs this: the runner, started by the path of a file.

The typed line has to be short and plain in every shell, so it can carry no code as the argv of a
managed pane does. `python -I -S` puts neither the script's folder nor the installed packages on the
path, so the runner is found from here; `_exit` for the reason in hosts/local.py.
"""

import os
import sys

PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    sys.path.insert(0, PACKAGE_FOLDER)

    from gangline.hosts.runner import main

    os._exit(main(sys.argv[1]))
