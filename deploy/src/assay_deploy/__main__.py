"""Entry point of `python -m assay_deploy`, the same as the command `assay-deploy`."""

import sys

from assay_deploy.cli import main

if __name__ == "__main__":
    sys.exit(main())
