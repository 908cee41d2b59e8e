"""`python -m gangline`."""

from gangline.cli.main import main

main()
