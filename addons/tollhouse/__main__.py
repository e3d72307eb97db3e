"""`python -m tollhouse` is the command `tollhouse`."""

from tollhouse.cli.main import main

if __name__ == "__main__":
    main()
