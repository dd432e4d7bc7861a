"""`python -m sumcirc` is the `sumcirc` command."""

from sumcirc.cli.main import main

if __name__ == "__main__":
    main()
