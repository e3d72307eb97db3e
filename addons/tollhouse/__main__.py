"""`python -m tollhouse` is the command `tollhouse`."""

from tollhouse.cli import main

if __name__ == "__main__":
    main()
