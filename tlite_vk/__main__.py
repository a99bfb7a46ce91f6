"""`python -m tlite_vk` is the command tlite-vk."""

import sys

from tlite_vk.cli import main

sys.exit(main())
