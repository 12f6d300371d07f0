"""Entry point of `python -P -m heliograph`."""

import sys

from heliograph.cli import main

sys.exit(main())
