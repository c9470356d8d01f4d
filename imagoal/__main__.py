"""`python -m imagoal JOB key=value ...` is the same as `imagoal JOB key=value ...`."""

import sys

from imagoal.cli import main

sys.exit(main())
