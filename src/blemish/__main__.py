"""`python -m blemish` and the command `blemish`."""

from blemish.cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
